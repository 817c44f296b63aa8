/* tuning.h - what the routes of files and of tuning share. */
#pragma once
#include "server/ask.h"

/* Whose rows a key may see: 0 for all (no key was needed, or it has scope admin), else its own id. */
int64_t bm_ask_sees(const bm_key *key);
/* {"object":"list","data":[ ... ],"has_more":...} around what is written between. */
void bm_list_open(bm_json *j);
void bm_list_close(bm_json *j, bool has_more);
/* home/files/ID. BM_NOTFOUND when id is no id of a file. */
int  bm_files_path(const bm_server *server, const char *id, bm_buf *out, bm_error *err);
