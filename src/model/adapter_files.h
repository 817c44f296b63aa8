/* adapter_files.h - what adapter_file.c, adapter_peft.c and adapter_gguf.c share. Private to src/model. */
#pragma once
#include "format/gguf.h"
#include "model/adapter_file.h"

typedef struct bm_adapter_pair { const void *a, *b; int rank; } bm_adapter_pair;       /* tensors of the file, borrowed */

/* The maps that a file changes, while it is read. */
typedef struct bm_adapter_list {
    const bm_model *model;
    int n_layers;
    bm_adapter_pair *pairs;      /* [n_layers][BM_LORA_SITES] */
} bm_adapter_list;

int  bm_adapter_list_init(bm_adapter_list *list, const bm_model *model, bm_error *err);
void bm_adapter_list_done(bm_adapter_list *list);
/* One of its tensors, [rows, cols] as HF has it: checked against the model and against its other half. */
int  bm_adapter_list_add(bm_adapter_list *list, int layer, bm_lora_site site, bool is_b, uint64_t rows, uint64_t cols, const void *tensor,
                         bm_error *err);
/* All halves are there: out's matrices with memory for their values, and no scales yet. */
int  bm_adapter_list_finish(const bm_adapter_list *list, bm_adapter_file *out, bm_error *err);

float bm_adapter_alpha(const bm_lora_matrix *m, bool rslora);
void bm_adapter_about_ranks(bm_adapter_about *about, const bm_lora_matrix *matrices, size_t n);
void bm_adapter_about_copy(char *out, size_t room, const char *s, size_t len);

int bm_peft_look(const char *dir, bm_adapter_about *about, bm_error *err);                 /* 1 or negative */
int bm_peft_read(bm_adapter_file *out, const bm_model *model, const char *dir, bm_error *err);
int bm_gguf_adapter_look(const bm_gguf *gguf, bm_adapter_about *about, bm_error *err);
int bm_gguf_adapter_read(bm_adapter_file *out, const bm_model *model, const bm_gguf *gguf, bm_error *err);
