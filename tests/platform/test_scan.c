/* Finding what other programs have brought to the machine. */
#include "home_kit.h"

#include <sys/stat.h>

#include "platform/shelf.h"

#define DIGEST "4eda0f0e1c0f8d2d6f5a0e9d7a8a4a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f"

typedef struct hits { bm_scan_hit items[16]; int n, stop_at; } hits;

static int collect(void *arg, const bm_scan_hit *hit)
{
    hits *h = arg;

    assert_true(h->n < 16);
    h->items[h->n++] = *hit;
    return h->n == h->stop_at;
}

static const bm_scan_hit *find(const hits *h, const char *name)
{
    for (int i = 0; i < h->n; i++)
        if (strcmp(h->items[i].name, name) == 0)
            return &h->items[i];
    return NULL;
}

static void write_manifest(const char *below, const char *type, const char *digest)
{
    char text[512], path[300];

    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.template\",\"digest\":\"sha256:%s\"},"
             "{\"mediaType\":\"%s\",\"digest\":\"%s\"}]}", DIGEST, type, digest);
    snprintf(path, sizeof path, ".ollama/models/manifests/%s", below);
    kit_write(path, text, strlen(text));
}

#define MODEL_LAYER "application/vnd.ollama.image.model"

static void ollama_models_are_found_by_their_manifests(void **state)
{
    hits h = { .n = 0 };
    bm_error err;

    (void)state;
    kit_write(".ollama/models/blobs/sha256-" DIGEST, "GGUF", 4);
    write_manifest("registry.ollama.ai/library/qwen3/0.6b", MODEL_LAYER, "sha256:" DIGEST);
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), 0);
    assert_int_equal(h.n, 1);
    assert_string_equal(h.items[0].name, "qwen3:0.6b");
    assert_string_equal(h.items[0].source, "ollama");
    assert_string_equal(h.items[0].path, kit_path(".ollama/models/blobs/sha256-" DIGEST));
}

static void other_registries_keep_what_tells_them_apart(void **state)
{
    hits h = { .n = 0 };
    bm_error err;
    char other[65] = DIGEST;

    (void)state;
    other[0] = '5';
    kit_write(".ollama/models/blobs/sha256-" DIGEST, "GGUF", 4);
    char blob[128];
    snprintf(blob, sizeof blob, ".ollama/models/blobs/sha256-%s", other);
    kit_write(blob, "GGUF", 4);
    char digest[80];
    snprintf(digest, sizeof digest, "sha256:%s", other);
    write_manifest("registry.ollama.ai/someone/tiny/latest", MODEL_LAYER, "sha256:" DIGEST);
    write_manifest("hf.co/org/repo-GGUF/Q4_K_M", MODEL_LAYER, digest);
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), 0);
    assert_int_equal(h.n, 2);
    assert_non_null(find(&h, "someone/tiny:latest"));
    assert_non_null(find(&h, "hf.co/org/repo-GGUF:Q4_K_M"));
}

static void hostile_manifests_reach_no_file(void **state)
{
    hits h = { .n = 0 };
    bm_error err;

    (void)state;
    kit_write(".ollama/models/blobs/sha256-" DIGEST, "GGUF", 4);
    kit_write(".ollama/secret", "GGUF", 4);
    write_manifest("registry.ollama.ai/library/a/up", MODEL_LAYER, "sha256:../../secret");
    write_manifest("registry.ollama.ai/library/a/up2", MODEL_LAYER, "../../secret");
    write_manifest("registry.ollama.ai/library/a/short", MODEL_LAYER, "sha256:4eda");
    write_manifest("registry.ollama.ai/library/a/absent", MODEL_LAYER, "sha256:" "0000000000000000000000000000000000000000000000000000000000000000");
    write_manifest("registry.ollama.ai/library/a/nomodel", "application/vnd.ollama.image.license", "sha256:" DIGEST);
    write_manifest("registry.ollama.ai/library/bad name/x", MODEL_LAYER, "sha256:" DIGEST);
    write_manifest("registry.ollama.ai/too/deep/a/b", MODEL_LAYER, "sha256:" DIGEST);
    kit_write(".ollama/models/manifests/registry.ollama.ai/library/a/text", "no JSON", 7);
    kit_write(".ollama/models/manifests/registry.ollama.ai/library/a/types", "{\"layers\":[1,{\"mediaType\":2}]}", 30);
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), 0);
    if (h.n != 0)
        fail_msg("%s: %s", h.items[0].name, h.items[0].path);
}

static void caches_of_others_are_found_once(void **state)
{
    hits h = { .n = 0 };
    bm_error err;

    (void)state;
    kit_write(".lmstudio/models/pub/repo/Alpha-Q4_K_M.gguf", "GGUF", 4);
    kit_write(".lmstudio/models/pub/repo/mmproj-Alpha-f16.gguf", "GGUF", 4);
    kit_write(".cache/lm-studio/models/pub/repo/Beta.gguf", "GGUF", 4);
    kit_write(".cache/huggingface/hub/models--o--r/blobs/abc", "GGUF", 4);
    kit_write(".cache/huggingface/hub/models--o--r/snapshots/rev2/README.md", "x", 1);
    kit_write(".cache/huggingface/hub/models--o--r/snapshots/rev1/README.md", "x", 1);
    assert_int_equal(symlink("../../blobs/abc", kit_path(".cache/huggingface/hub/models--o--r/snapshots/rev1/Gamma.gguf")), 0);
    assert_int_equal(symlink("../../blobs/abc", kit_path(".cache/huggingface/hub/models--o--r/snapshots/rev2/Gamma.gguf")), 0);
    assert_int_equal(symlink("../../..", kit_path(".cache/huggingface/hub/models--o--r/snapshots/loop")), 0);
    kit_write(".cache/llama.cpp/org_Delta-GGUF_delta-Q8_0.gguf", "GGUF", 4);
    kit_write(".cache/llama.cpp/big-00001-of-00002.gguf", "GGUF", 4);
    kit_write(".cache/llama.cpp/big-00002-of-00002.gguf", "GGUF", 4);
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), 0);
    assert_int_equal(h.n, 5);
    assert_string_equal(find(&h, "Alpha-Q4_K_M")->source, "lmstudio");
    assert_string_equal(find(&h, "Beta")->source, "lmstudio");
    assert_string_equal(find(&h, "Gamma")->source, "hf");
    assert_string_equal(find(&h, "Gamma")->path, kit_path(".cache/huggingface/hub/models--o--r/blobs/abc"));
    assert_string_equal(find(&h, "delta-Q8_0")->source, "llama.cpp");
    assert_non_null(find(&h, "big-00001-of-00002"));
}

static void scan_stops_when_told_and_an_empty_home_is_fine(void **state)
{
    hits h = { .n = 0 };
    bm_error err;

    (void)state;
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), 0);
    assert_int_equal(h.n, 0);
    kit_write(".lmstudio/models/p/r/a.gguf", "GGUF", 4);
    kit_write(".lmstudio/models/p/r/b.gguf", "GGUF", 4);
    h.stop_at = 1;
    assert_int_equal(bm_shelf_scan(kit_home, collect, &h, &err), BM_CANCELED);
    assert_int_equal(h.n, 1);
}

static void environment_says_where_else_to_look(void **state)
{
    hits h = { .n = 0 };
    bm_error err;

    (void)state;
    kit_write("hf/hub/models--o--r/snapshots/1/Eps.gguf", "GGUF", 4);
    kit_write("ll/zeta.gguf", "GGUF", 4);
    setenv("HOME", kit_path("nothing"), 1);
    setenv("HF_HOME", kit_path("hf"), 1);
    setenv("LLAMA_CACHE", kit_path("ll"), 1);
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HF_HUB_CACHE");
    unsetenv("OLLAMA_MODELS");
    assert_int_equal(bm_shelf_scan(NULL, collect, &h, &err), 0);
    assert_non_null(find(&h, "Eps"));
    assert_non_null(find(&h, "zeta"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ollama_models_are_found_by_their_manifests),
        T(other_registries_keep_what_tells_them_apart),
        T(hostile_manifests_reach_no_file),
        T(caches_of_others_are_found_once),
        T(scan_stops_when_told_and_an_empty_home_is_fine),
        T(environment_says_where_else_to_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
