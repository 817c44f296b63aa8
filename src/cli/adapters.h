/* adapters.h - adapters in the commands of the shelf. */
#pragma once
#include <jansson.h>
#include "platform/shelf.h"

json_t *adapter_json(const bm_adapter_row *row);
void adapter_print(const bm_adapter_row *row);
/* Behind the list of models: those of each base. */
void adapters_print_list(const bm_adapter_row *rows, size_t n);
/* `shelf add` of what looks like an adapter; an exit code. */
int  adapter_add(bm_store *store, const char *path, const char *base, const char *name, bool as_json);
