/* fuzz_request.c - the first byte picks the reader: a chat body, a completions body, or the head of an HTTP request. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/request.h"
#include "server/request_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void use(const char *s)
{
    volatile size_t n = s == NULL ? 0 : strlen(s);

    (void)n;
}

static void read_body(unsigned route, const char *s, size_t len)
{
    bm_request r;
    bm_error err;

    if (bm_request_parse(&r, route, s, len, &err) < 0) {
        if (err.msg[0] == '\0')
            abort();
        return;
    }
    if (r.n < 1 || r.n_prompts < 1 || r.top_logprobs > 20 || r.n_stop > BM_MAX_STOPS)
        abort();
    for (size_t i = 0; i < r.n_stop; i++)
        use(r.stop[i]);
    for (size_t i = 0; i < r.n_prompts && route == BM_COMPLETIONS; i++) {
        use(r.prompts[i].text);
        for (size_t k = 0; k < r.prompts[i].n_ids; k++)
            if (r.prompts[i].ids[k] < 0)
                abort();
    }
    if (route == BM_CHAT)
        bm_messages_fit(r.messages, "{{ message.content }}", &err);
    bm_request_done(&r);
}

static void read_head(const uint8_t *bytes, size_t len)
{
    char *copy = malloc(len);        /* exactly: the parser writes in place */
    const char *why = NULL;
    bm_http_head h;
    uint64_t size;

    memcpy(copy, bytes, len);
    size_t n = bm_http_head_length(copy, len);
    bm_http_chunk_size(copy, len, &size);
    if (n > 0 && bm_http_head_parse(&h, copy, n, &why) == 0) {
        use(h.target);
        use(h.query);
        use(h.host);
        use(h.origin);
        use(h.authorization);
        use(h.content_type);
        use(h.content_encoding);
        if (h.chunked && h.has_length)
            abort();
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len < 1)
        return 0;
    switch (bytes[0] % 3) {
    case 0: read_body(BM_CHAT, (const char *)bytes + 1, len - 1); break;
    case 1: read_body(BM_COMPLETIONS, (const char *)bytes + 1, len - 1); break;
    default: read_head(bytes + 1, len - 1);
    }
    return 0;
}
