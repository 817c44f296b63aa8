/* adapter_file.h - adapters as files: PEFT's directory and llama.cpp's GGUF, read and written.
 *
 * PEFT (huggingface/peft, "Checkpoint format"): DIR/adapter_config.json and DIR/adapter_model.safetensors, whose tensors are
 * base_model.model.model.layers.N.MODULE.lora_A.weight [R, K] and .lora_B.weight [N, R]. GGUF (convert_lora_to_gguf.py of
 * llama.cpp): general.type "adapter", adapter.type "lora", adapter.lora.alpha, tensors blk.N.TENSOR.weight.lora_a, .lora_b; its
 * rows of q and k stand as in the base's file (pairs rotate in the llama family): reading and writing reorder them.
 *
 * A file is hostile: what it says is checked against caps and against the model's shapes; what is not carried out (biases,
 * trained embeddings, DoRA, ...) is refused by name. All functions: any thread. */
#pragma once
#include "model/lora.h"

/* What is known about an adapter beside its matrices. "" or 0: not known. Hashes, version and settings stand under baimo.* in the
 * metadata of the safetensors file, and as keys of a GGUF. */
typedef struct bm_adapter_about {
    char base_name[256];         /* as its maker called the base */
    char base_sha256[65];        /* hex: of the base's GGUF */
    char data_sha256[65];        /* of the data that it was trained on */
    char version[64];            /* of the program that made it */
    char settings[2048];         /* a JSON object: how it was trained */
    int rank;                    /* the commonest */
    float alpha;
    bool rslora;                 /* scale is alpha / sqrt(rank) */
} bm_adapter_about;

typedef struct bm_adapter_file {
    bm_adapter_about about;
    bm_lora_matrix *matrices;    /* by layer, then by site; a and b point into values */
    size_t n;
    float *values;
} bm_adapter_file;

/* Read a PEFT directory (or its adapter_model.safetensors) or a GGUF adapter and check it against the model's shapes. Errors
 * name the file, the tensor, the shape found and the one expected. *out is zero on failure; done() in either case. */
int  bm_adapter_file_read(bm_adapter_file *out, const bm_model *model, const char *path, bm_error *err);
void bm_adapter_file_done(bm_adapter_file *file);

/* 1: path looks like an adapter (a directory with adapter_config.json, or a GGUF of type adapter), and what it says about itself
 * is in *about (NULL is fine); 0: it is something else; negative: it is one that cannot be read. */
int  bm_adapter_file_look(const char *path, bm_adapter_about *about, bm_error *err);

/* Write PEFT's layout to the directory `dir`, made when missing (its parent must be there): each of the two files appears whole
 * or not at all, the tensors' file last. f32. rank and alpha of `about` are taken from the matrices. */
int  bm_adapter_write_peft(const char *dir, const bm_model *model, const bm_lora_matrix *matrices, size_t n,
                           const bm_adapter_about *about, bm_error *err);
/* Write llama.cpp's GGUF, f32. All matrices must have one alpha, which llama.cpp divides by each one's rank. */
int  bm_adapter_write_gguf(const char *path, const bm_model *model, const bm_lora_matrix *matrices, size_t n,
                           const bm_adapter_about *about, bm_error *err);
