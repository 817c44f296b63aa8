/* test_packs.c - packs on disk: weights from a pack give the same bits, damage is found, what may go goes. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compute/pack.h"
#include "engine/engine.h"
#include "engine/packs.h"
#include "../model/model_kit.h"

enum { N_IDS = 24 };
#define TINY KIT_DIR "llama.gguf"

static char root[] = "/tmp/baimo-test-XXXXXX";
static char dir[64];
static char real_path[1024];

static int make_directory(void **state)
{
    const char *models = getenv("BAIMO_MODELS"), *home = getenv("HOME");

    (void)state;
    snprintf(real_path, sizeof real_path, "%s%s/smollm2.gguf", models != NULL ? models : home != NULL ? home : "",
             models != NULL ? "" : "/.cache/baimo-models");
    if (mkdtemp(root) == NULL)
        return -1;
    snprintf(dir, sizeof dir, "%s/packs", root);
    return 0;
}

static int empty_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "chmod -R u+w '%s'; rm -rf '%s'/*", root, root);
    return system(command);
}

static int remove_directory(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int count(const char *ending)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    size_t n = strlen(ending);
    int found = 0;

    while (d != NULL && (e = readdir(d)) != NULL)
        found += strlen(e->d_name) >= n && strcmp(e->d_name + strlen(e->d_name) - n, ending) == 0;
    if (d != NULL)
        closedir(d);
    return found;
}

/* A model on the pack of its directory: opened, kept; what keep returned. with_dir false: as --no-pack. */
typedef struct held { kit k; bm_pack_spot spot; bool mapped; int kept; bm_error why; } held;

static void open_held(held *h, const char *path, bool with_dir, bool f32)
{
    bm_model_options options = { .f32 = f32, .kv_type = BM_KV_INT16, .isa = kit_isa() };
    bm_error err = { 0 };

    *h = (held){ 0 };
    kit_check(bm_team_new(&h->k.team, 2, &err), &err);
    kit_check(bm_gguf_open(&h->k.gguf, path, &err), &err);
    if (with_dir) {
        kit_check(bm_pack_spot_init(&h->spot, dir, h->k.gguf, NULL, &err), &err);
        bm_pack_spot_options(&h->spot, &options);
    }
    kit_check(bm_model_open(&h->k.model, h->k.gguf, &options, h->k.team, &err), &err);
    kit_check(bm_step_new(&h->k.step, h->k.model, N_IDS, 2, &err), &err);
    h->mapped = bm_model_mapped(h->k.model, NULL);
}

static void keep_held(held *h) { h->kept = bm_pack_spot_keep(&h->spot, h->k.model, NULL, NULL, &h->why); }

static void close_held(held *h)
{
    bm_pack_spot_done(&h->spot);
    kit_close(&h->k);
}

/* The logits of a few tokens; the caller's to free. */
static float *logits_of(held *h)
{
    int v = bm_model_get_info(h->k.model)->n_vocab;
    float *out = malloc(sizeof *out * (size_t)v * N_IDS);
    int32_t ids[N_IDS];

    for (int i = 0; i < N_IDS; i++)
        ids[i] = (i * 37 + 11) % v;
    kit_run_chunks(&h->k, ids, N_IDS, N_IDS, 1, out);
    return out;
}

static void same_bits(held *a, held *b)
{
    float *x = logits_of(a), *y = logits_of(b);

    assert_memory_equal(x, y, sizeof *x * (size_t)bm_model_get_info(a->k.model)->n_vocab * N_IDS);
    free(x);
    free(y);
}

static void check_same_bits(const char *path, bool large)
{
    held plain, first, second;

    open_held(&plain, path, false, false);
    open_held(&first, path, true, false);
    assert_false(plain.mapped || first.mapped);
    keep_held(&first);
    assert_int_equal(first.kept, 0);
    assert_int_equal(count(".pack"), 1);
    assert_int_equal(bm_model_mapped(first.k.model, NULL), large);   /* goes on from the file */
    same_bits(&plain, &first);
    open_held(&second, path, true, false);
    assert_true(second.mapped);
    keep_held(&second);
    assert_int_equal(second.kept, 0);
    same_bits(&plain, &second);
    close_held(&plain);
    close_held(&first);
    close_held(&second);
}

static void packed_on_disk_in_memory_and_mapped_give_the_same_bits(void **state)
{
    static const char *const names[] = { "llama", "qwen2", "gemma2", "qwen3", NULL };

    for (int i = 0; names[i] != NULL; i++) {
        char path[200];
        snprintf(path, sizeof path, KIT_DIR "%s.gguf", names[i]);
        if (access(path, R_OK) != 0)
            continue;
        check_same_bits(path, false);
        empty_directory(state);
    }
    if (access(real_path, R_OK) == 0)
        check_same_bits(real_path, true);
}

typedef struct runner { held *h; float *expected; bool same; } runner;

static void *run_all_the_time(void *arg)
{
    runner *r = arg;

    r->same = true;
    for (int i = 0; i < 12; i++) {
        float *now = logits_of(r->h);
        r->same &= memcmp(now, r->expected, sizeof *now * (size_t)bm_model_get_info(r->h->k.model)->n_vocab * N_IDS) == 0;
        free(now);
    }
    return NULL;
}

static void the_file_takes_over_while_the_model_runs(void **state)
{
    pthread_t thread;
    runner r;
    held h;

    (void)state;
    if (access(real_path, R_OK) != 0)
        skip();
    open_held(&h, real_path, true, false);
    r = (runner){ &h, logits_of(&h), false };
    pthread_create(&thread, NULL, run_all_the_time, &r);
    keep_held(&h);
    pthread_join(thread, NULL);
    assert_int_equal(h.kept, 0);
    assert_true(bm_model_mapped(h.k.model, NULL));
    assert_true(r.same);
    free(r.expected);
    close_held(&h);
}

static void f32_is_never_kept(void **state)
{
    held h;
    bm_error err = { 0 };

    (void)state;
    open_held(&h, TINY, true, true);
    assert_false(h.mapped);
    assert_int_equal(bm_model_write_pack(h.k.model, "/tmp/never.pack", &h.spot.key, NULL, NULL, &err), BM_INVALID);
    close_held(&h);
}

static void make_pack(const char *path)
{
    held h;

    open_held(&h, path, true, false);
    keep_held(&h);
    assert_int_equal(h.kept, 0);
    close_held(&h);
}

static void damage(const held *h, off_t at, off_t cut)
{
    unsigned char byte;
    struct stat st;
    int fd = open(h->spot.path, O_RDWR);

    assert_true(fd >= 0);
    fstat(fd, &st);
    if (cut > 0) {
        assert_int_equal(ftruncate(fd, st.st_size - cut), 0);
    } else {
        at = at < 0 ? st.st_size + at : at;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

static void a_damaged_pack_is_made_anew(void **state)
{
    held plain, h, again;

    (void)state;
    open_held(&plain, TINY, false, false);
    for (int i = 0; i < 4; i++) {
        make_pack(TINY);
        make_pack(TINY);                                 /* its checksums were compared: the change must be seen all the same */
        open_held(&h, TINY, true, false);
        assert_true(h.mapped);
        close_held(&h);
        open_held(&h, TINY, true, false);
        damage(&h, i == 0 ? -1 : i == 1 ? -5000 : 20, i == 3);
        close_held(&h);
        open_held(&h, TINY, true, false);
        assert_int_equal(h.mapped, i < 2);               /* header and length are looked at; data is checked later */
        keep_held(&h);
        assert_int_equal(h.kept, i < 2 ? 1 : 0);
        if (i < 2)
            assert_int_equal(count(".pack"), 0);
        else
            same_bits(&plain, &h);
        close_held(&h);
        open_held(&again, TINY, true, false);
        same_bits(&plain, &again);
        keep_held(&again);
        assert_int_equal(again.kept, 0);
        close_held(&again);
        assert_int_equal(count(".pack"), 1);
    }
    close_held(&plain);
}

static void a_changed_gguf_has_another_pack(void **state)
{
    char path[128], command[256];
    held h, other;

    (void)state;
    snprintf(path, sizeof path, "%s/model.gguf", root);
    snprintf(command, sizeof command, "cp " KIT_DIR "llama.gguf %s", path);
    assert_int_equal(system(command), 0);
    make_pack(path);
    open_held(&h, path, true, false);
    assert_true(h.mapped);
    close_held(&h);
    open_held(&h, path, true, false);                    /* loaded, then replaced: what is packed must not get the new one's name */
    snprintf(command, sizeof command, "cp " KIT_DIR "qwen2.gguf %s", path);
    assert_int_equal(system(command), 0);
    open_held(&other, path, true, false);
    assert_false(other.mapped);
    keep_held(&other);
    assert_int_equal(other.kept, 0);
    assert_int_equal(count(".pack"), 2);
    close_held(&h);
    close_held(&other);
}

static void a_file_that_changes_before_it_is_hashed_is_not_kept(void **state)
{
    char path[128], command[256];
    held h;

    (void)state;
    snprintf(path, sizeof path, "%s/model.gguf", root);
    snprintf(command, sizeof command, "cp " KIT_DIR "llama.gguf %s", path);
    assert_int_equal(system(command), 0);
    open_held(&h, path, true, false);
    snprintf(command, sizeof command, "cp --remove-destination " KIT_DIR "qwen2.gguf %s", path);
    assert_int_equal(system(command), 0);
    keep_held(&h);
    assert_int_equal(h.kept, BM_IO);
    assert_int_equal(count(".pack"), 0);
    close_held(&h);
}

static void a_directory_that_cannot_be_written_is_one_error(void **state)
{
    held h;

    (void)state;
    int fd = open(dir, O_CREAT | O_WRONLY, 0600);        /* root may write into any directory: a file has the name */
    close(fd);
    open_held(&h, TINY, true, false);
    keep_held(&h);
    assert_int_equal(h.kept, BM_IO);
    assert_true(h.why.msg[0] != '\0');
    close_held(&h);
}

static void canceling_is_no_error(void **state)
{
    held h;

    (void)state;
    open_held(&h, TINY, true, false);
    bm_keeper *keeper;
    bm_error err = { 0 };
    kit_check(bm_keeper_start(&keeper, &h.spot, h.k.model, NULL, NULL, &err), &err);
    bm_keeper_stop(keeper, false);
    assert_true(count(".pack") <= 1);
    assert_int_equal(count(".tmp"), 0);
    close_held(&h);
    open_held(&h, TINY, true, false);
    kit_check(bm_keeper_start(&keeper, &h.spot, h.k.model, NULL, NULL, &err), &err);
    bm_keeper_stop(keeper, true);
    assert_int_equal(count(".pack"), 1);
    close_held(&h);
}

static bool keep_none(void *arg, const char hex[65])
{
    (void)arg, (void)hex;
    return false;
}

static bool keep_all(void *arg, const char hex[65])
{
    (void)arg, (void)hex;
    return true;
}

static void touch(const char *name)
{
    char path[300];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

static void leftovers_and_packs_that_nobody_needs_go(void **state)
{
    char name[200], hex[65];
    bm_error err = { 0 };
    size_t n = 0;
    uint64_t freed = 0;

    (void)state;
    assert_int_equal(bm_packs_sweep(dir, keep_none, NULL, &n, &freed, &err), 0);         /* no directory yet */
    make_pack(TINY);
    memset(hex, 'a', 64);
    hex[64] = '\0';
    snprintf(name, sizeof name, "%s-v%d.pack.tmp.1.2", hex, BM_PACK_VERSION);
    touch(name);
    snprintf(name, sizeof name, "%s-v%d.pack", hex, BM_PACK_VERSION + 1);
    touch(name);
    touch("notes.txt");
    touch("aaa-v1.pack");
    assert_int_equal(bm_packs_sweep(dir, keep_all, NULL, &n, &freed, &err), 0);
    assert_int_equal(n, 1);                              /* the other version; temporary files are not counted */
    assert_int_equal(count(".pack"), 2);
    assert_int_equal(count(".1.2"), 0);
    assert_int_equal(bm_packs_sweep(dir, keep_none, NULL, &n, &freed, &err), 0);
    assert_int_equal(n, 2);
    assert_true(freed > 0);
    assert_int_equal(count(".pack"), 1);                 /* not one of ours */
    assert_int_equal(count("notes.txt"), 1);
}

static void a_crashed_writer_is_cleaned_up_after(void **state)
{
    char name[200], hex[65];

    (void)state;
    make_pack(KIT_DIR "qwen2.gguf");
    memset(hex, 'b', 64);
    hex[64] = '\0';
    snprintf(name, sizeof name, "%s-v%d.pack.tmp.77.0", hex, BM_PACK_VERSION);
    touch(name);
    make_pack(TINY);
    assert_int_equal(count(".77.0"), 0);
    assert_int_equal(count(".pack"), 2);
}

static void what_is_known_of_files_is_found_again(void **state)
{
    bm_file_id id = { 1, 2, 3, 4 }, other;
    bm_sha256 a = { { 1, 2, 255 } }, b = { { 9 } }, found;
    char path[100];

    (void)state;
    mkdir(dir, 0700);
    assert_false(bm_packs_recall(dir, "file", &id, &found));
    bm_packs_remember(dir, "file", &id, &a);
    bm_packs_remember(dir, "pack", &id, &b);
    assert_true(bm_packs_recall(dir, "file", &id, &found));
    assert_memory_equal(&found, &a, sizeof a);
    assert_true(bm_packs_recall(dir, "pack", &id, &found));
    assert_memory_equal(&found, &b, sizeof b);
    for (int i = 0; i < 4; i++) {
        other = id;
        *(i == 0 ? &other.device : i == 1 ? &other.inode : i == 2 ? &other.size_bytes : (uint64_t *)&other.mtime_ns) += 1;
        assert_false(bm_packs_recall(dir, "file", &other, &found));
    }
    other = id;
    other.mtime_ns = 9;
    bm_packs_remember(dir, "file", &other, &b);
    assert_false(bm_packs_recall(dir, "file", &id, &found));             /* the same file, changed */
    for (int i = 0; i < 700; i++) {
        other.inode = 1000 + (uint64_t)i;
        bm_packs_remember(dir, "file", &other, &b);
    }
    assert_true(bm_packs_recall(dir, "file", &other, &found));
    snprintf(path, sizeof path, "%s/known", dir);
    FILE *f = fopen(path, "w");
    fputs("file 1 2 3 4 zz\nfile 1 2 3 4 \n\nfile 1 2 3 4 0102", f);
    fclose(f);
    assert_false(bm_packs_recall(dir, "file", &id, &found));
    bm_packs_remember(dir, "file", &id, &a);
    assert_true(bm_packs_recall(dir, "file", &id, &found));
}

static void each_failing_allocation_leaves_the_model_usable(void **state)
{
    held plain, h;

    (void)state;
    open_held(&plain, TINY, false, false);
    for (int n = 1, done = 0; !done; n++) {
        empty_directory(state);
        open_held(&h, TINY, true, false);
        bm_mem_fail_at(n);
        keep_held(&h);
        bm_mem_fail_at(0);
        done = h.kept == 0 && n > 40;
        assert_true(h.kept <= 0);
        same_bits(&plain, &h);
        close_held(&h);
        assert_true(n < 200);
    }
    close_held(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(packed_on_disk_in_memory_and_mapped_give_the_same_bits, empty_directory),
        cmocka_unit_test_teardown(the_file_takes_over_while_the_model_runs, empty_directory),
        cmocka_unit_test_teardown(f32_is_never_kept, empty_directory),
        cmocka_unit_test_teardown(a_damaged_pack_is_made_anew, empty_directory),
        cmocka_unit_test_teardown(a_changed_gguf_has_another_pack, empty_directory),
        cmocka_unit_test_teardown(a_file_that_changes_before_it_is_hashed_is_not_kept, empty_directory),
        cmocka_unit_test_teardown(a_directory_that_cannot_be_written_is_one_error, empty_directory),
        cmocka_unit_test_teardown(canceling_is_no_error, empty_directory),
        cmocka_unit_test_teardown(leftovers_and_packs_that_nobody_needs_go, empty_directory),
        cmocka_unit_test_teardown(a_crashed_writer_is_cleaned_up_after, empty_directory),
        cmocka_unit_test_teardown(what_is_known_of_files_is_found_again, empty_directory),
        cmocka_unit_test_teardown(each_failing_allocation_leaves_the_model_usable, empty_directory),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
