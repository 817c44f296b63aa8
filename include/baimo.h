/* baimo.h - run language models on CPUs: the C interface of libbaimo.
 *
 *     baimo *model;
 *     baimo_error err;
 *     if (baimo_open(&model, "smollm2.gguf", NULL, &err) != BAIMO_OK) { fprintf(stderr, "%s\n", err.message); return 1; }
 *     baimo_message question = { "user", "What is the capital of France?" };
 *     baimo_chat(model, &question, 1, NULL, print_piece, NULL, NULL, &err);
 *     baimo_close(model);
 *
 * Link: cc program.c -lbaimo $(pkg-config --libs jansson openssl libutf8proc) -lm -pthread     (examples/generate.c is a whole program)
 *
 * Conventions. Every function that can fail returns BAIMO_OK (0) or one of the negative codes below, and fills *err when err is
 * not NULL. Nothing prints and nothing exits. Strings are UTF-8 and NUL-terminated unless a length is given; strings that you
 * pass are copied, strings that you get belong to the library. Structures that you pass may be NULL, which means all defaults.
 *
 * Threads. A model may be used by any number of threads at once: their requests are run in one batch, and each answer is the
 * same, bit for bit, as if its request had been alone. Only baimo_close must come after all other calls have returned.
 *
 * Compatibility. Structures only grow at their end, and baimo_settings_init sets what you do not know. */
#ifndef BAIMO_H
#define BAIMO_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#define BAIMO_API __attribute__((visibility("default")))

/* Result codes. */
enum {
    BAIMO_OK = 0,
    BAIMO_NOMEM = -1,            /* not enough memory: message says what was needed and what there is */
    BAIMO_IO = -2,               /* a file cannot be read */
    BAIMO_FORMAT = -3,           /* a file's bytes are wrong: message names the field or tensor */
    BAIMO_UNSUPPORTED = -4,      /* well formed, but not carried out: an unknown architecture, a chat with a base model */
    BAIMO_INVALID = -5,          /* an argument is out of range, or the chat template refuses the messages */
    BAIMO_NOTFOUND = -6,         /* no such file */
    BAIMO_CONTEXT = -8,          /* the prompt is longer than the context: message has both numbers */
    BAIMO_CANCELED = -9,         /* progress said so */
    BAIMO_BUSY = -10,            /* too many requests wait */
    BAIMO_INTERNAL = -16         /* the computation failed: message says where */
};

/* What went wrong: one line, and (or "") the change that helps. */
typedef struct baimo_error {
    int code;
    char message[480];
    char hint[240];
} baimo_error;

/* A model in memory, with the threads that run it. Opaque. */
typedef struct baimo baimo;

/* The version of the library, "0.1.0". */
BAIMO_API const char *baimo_version(void);

typedef struct baimo_options {
    int threads;                 /* 0: as many as the machine, its cpuset and its quota allow */
    int context;                 /* tokens of prompt and answer together; 0: the largest that fits into memory, at most the model's own */
    int parallel;                /* requests that shall fit with full context; 0: 1 */
    int exact;                   /* non-zero: everything in 32-bit floats (slow; for comparisons) */
    const char *kv_type;         /* of the KV cache: NULL or "int16", "f16", or "int8": half the memory. Not with exact */
    int no_speculation;          /* non-zero: compute one token at a time; answers are the same bytes either way */
    const char *name;            /* for messages; NULL: the file's name */
    const char *adapter;         /* a LoRA adapter made for this file, in every answer: a directory of PEFT's or a GGUF; NULL: none */
    /* Called while the weights are read, with bytes done and in all; non-zero stops with BAIMO_CANCELED. */
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
    /* A directory in which the weights are kept as they are used, made when missing: the next opening maps them from there and is
     * immediate, and all processes share one copy. Written after opening, in the background; baimo_close waits for it. NULL: no. */
    const char *packs;
    /* Why there is no such file, or that it was found damaged, as one line; from a thread of the library, until baimo_close. */
    void (*notice)(void *arg, const char *line);
    void *notice_arg;
} baimo_options;

/* Load the GGUF file at path. Memory is added up first: when it does not fit, BAIMO_NOMEM and the arithmetic in the message,
 * and nothing was loaded. On failure *out is NULL. */
BAIMO_API int baimo_open(baimo **out, const char *path, const baimo_options *options, baimo_error *err);
/* Free the model. NULL is fine. */
BAIMO_API void baimo_close(baimo *model);

typedef struct baimo_info {
    char name[128], architecture[32], quantization[16], license[64];     /* as the file says; may be "" */
    uint64_t parameters, file_bytes, memory_bytes;       /* memory: of the weights */
    int context, context_of_model, vocabulary, threads;
    int chats;                   /* non-zero: the file has a chat template that baimo_chat can use */
    char memory_plan[256];       /* for people: what the context costs */
} baimo_info;
BAIMO_API void baimo_get_info(const baimo *model, baimo_info *out);

/* Tokens of text[0..len), without what a model puts before a prompt. Negative: an error code. */
BAIMO_API int64_t baimo_count_tokens(const baimo *model, const char *text, size_t len, baimo_error *err);

/* How to generate. Always start from baimo_settings_init. */
typedef struct baimo_settings {
    double temperature;          /* 0.8; 0: always the most likely token */
    int top_k;                   /* 40; only the k most likely; 0: off */
    double top_p;                /* 0.95; only the most likely, up to this mass; 1: off */
    double min_p;                /* 0.05; only tokens at least this likely relative to the best; 0: off */
    double repetition_penalty;   /* 1: off */
    double frequency_penalty, presence_penalty;          /* 0: off */
    uint64_t seed;               /* 0; equal seeds give equal answers */
    int max_tokens;              /* -1: until the context is full */
    const char *const *stop;     /* NULL; the answer ends before the first of these strings */
    size_t n_stop;
    int thinking;                /* 0: as the template has it; 1: on; -1: off. For templates that know enable_thinking */
} baimo_settings;
BAIMO_API void baimo_settings_init(baimo_settings *settings);

typedef struct baimo_message {
    const char *role;            /* "system", "user", "assistant" */
    const char *content;
} baimo_message;

/* A piece of the answer, as soon as it is certain. */
typedef struct baimo_piece {
    const char *text;            /* whole UTF-8 characters, NUL-terminated, never empty */
    size_t len;
    int is_reasoning;            /* non-zero: what a thinking model writes before its answer */
} baimo_piece;
/* Called in the thread that called baimo_chat or baimo_complete. Non-zero cancels the rest; that is not an error. */
typedef int (*baimo_callback)(void *arg, const baimo_piece *piece);

typedef enum baimo_finish { BAIMO_FINISH_STOP, BAIMO_FINISH_LENGTH, BAIMO_FINISH_CANCELED } baimo_finish;
typedef struct baimo_result {
    baimo_finish finish;         /* STOP: the model ended, or a stop string came; LENGTH: max_tokens or the context */
    int64_t prompt_tokens, completion_tokens;
    double first_token_s;        /* from the call to the first token */
    double prefill_s, decode_s;  /* time in the prompt; time after the first token */
    int64_t draft_tokens, draft_accepted;        /* tokens guessed ahead from prompt and answer; of these, right */
} baimo_result;

/* Answer a conversation. The messages are put together by the model's own template; what stands in them is always text, never
 * a control token. callback and result may be NULL. Returns when the answer is complete or canceled. */
BAIMO_API int baimo_chat(baimo *model, const baimo_message *messages, size_t n_messages, const baimo_settings *settings,
                         baimo_callback callback, void *arg, baimo_result *result, baimo_error *err);
/* Continue a text as it stands. Control tokens in it count. */
BAIMO_API int baimo_complete(baimo *model, const char *prompt, size_t len, const baimo_settings *settings,
                             baimo_callback callback, void *arg, baimo_result *result, baimo_error *err);

#ifdef __cplusplus
}
#endif
#endif
