/* Jobs with children that behave badly: what they print, how they die, whom they outlive. The child is a shell script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "platform/jobs.h"

static char home[64], script[96];
static bm_store *store;
static atomic_int n_finished;
static atomic_bool is_busy;
static int finish_with;
static int patience_seconds;             /* with a child that is asked to stop */

static int make_home(void **state)
{
    bm_error err;

    (void)state;
    strcpy(home, "/tmp/bm-jobs-XXXXXX");
    if (mkdtemp(home) == NULL)
        return 1;
    snprintf(script, sizeof script, "%s/child", home);
    atomic_store(&n_finished, 0);
    atomic_store(&is_busy, false);
    finish_with = 0;
    patience_seconds = 60;
    return bm_store_open(&store, home, &err);
}

static int remove_home(void **state)
{
    char command[128];

    (void)state;
    bm_store_close(store);
    snprintf(command, sizeof command, "rm -rf %s", home);
    return system(command);
}

static int finished(void *arg, bm_run_row *run, const char *dir, bm_error *err)
{
    (void)arg, (void)dir;
    assert_string_equal(run->result, "{\"loss\":1.5}");
    atomic_fetch_add(&n_finished, 1);
    return finish_with == 0 ? 0 : bm_fail(err, finish_with, "the shelf is full");
}

static bool busy(void *arg)
{
    (void)arg;
    return atomic_load(&is_busy);
}

/* body: what the child does; "$2" is its directory. */
static void write_script(const char *body)
{
    FILE *f = fopen(script, "w");

    fprintf(f, "#!/bin/sh\ncd \"$2\" || exit 9\nsay() { printf '%%s\\n' \"$1\"; }\n%s\n", body);
    fclose(f);
    chmod(script, 0700);
}

static const char say_done[] = "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'";

static bm_jobs *open_jobs_as(bool with_busy, bool eager)
{
    bm_jobs_options options = { .eager = eager, .program = script, .stop_seconds = patience_seconds, .events_bytes = 1 << 20, .finished = finished,
                                .busy = with_busy ? busy : NULL };
    bm_jobs *jobs;
    bm_error err;

    if (bm_jobs_new(&jobs, store, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return jobs;
}

static bm_jobs *open_jobs(bool with_busy) { return open_jobs_as(with_busy, false); }

static bm_run_row a_run(const char *name)
{
    bm_run_row row = { .kind = "tune", .model = "m" };
    bm_error err;

    snprintf(row.name, sizeof row.name, "%s", name);
    if (bm_job_create(store, &row, "{}", 2, &err) < 0)
        fail_msg("%s", err.msg);
    return row;
}

static char *path_of(const bm_run_row *row, const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "%s/jobs/%s/%s", home, row->id, name);
    return path;
}

/* Ask until the run is in that state; the caller's to give back. */
static bm_run_row wait_state(const bm_run_row *run, const char *state)
{
    bm_run_row now;

    for (int i = 0; i < 20000; i++) {
        assert_int_equal(bm_runs_find(store, run->id, &now, NULL), 0);
        if (strcmp(now.state, state) == 0)
            return now;
        if (i == 19999)
            fail_msg("the run is %s (%s), not %s", now.state, now.error, state);
        bm_run_row_done(&now);
        usleep(5000);
    }
    return now;
}

static void wait_file(const char *path)
{
    for (int i = 0; access(path, F_OK) < 0; i++) {
        assert_true(i < 20000);
        usleep(5000);
    }
}

static size_t count_events(const bm_run_row *run, const char *type, const char *part)
{
    bm_run_events_filter filter = { .run = run->number, .type = type, .oldest_first = true };
    bm_run_event *events;
    size_t n, hits = 0;

    assert_int_equal(bm_run_events_list(store, &filter, &events, &n, NULL), 0);
    for (size_t i = 0; i < n; i++)
        hits += strstr(events[i].data, part) != NULL || strstr(events[i].message, part) != NULL;
    bm_run_events_free(events, n);
    return hits;
}

static void events_are_stored_and_a_done_run_is_put_on_the_shelf_once(void **state)
{
    (void)state;
    write_script("say '{\"event\":\"start\",\"step\":0,\"n_steps\":2,\"data\":[{\"path\":\"/d\",\"sha256\":\"ab\"}]}'\n"
                 "say '{\"event\":\"step\",\"step\":1,\"loss\":2.5,\"tokens\":100}'\n"
                 "say '{\"event\":\"step\",\"step\":2,\"loss\":1.5,\"tokens\":200}'\n"
                 "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "succeeded");
    assert_int_equal(atomic_load(&n_finished), 1);
    assert_int_equal(now.step, 2);
    assert_int_equal(now.n_steps, 2);
    assert_int_equal(now.tokens, 200);
    assert_int_equal(now.attempts, 1);
    assert_string_equal(now.result, "{\"loss\":1.5}");
    assert_string_equal(now.data, "[{\"path\":\"/d\",\"sha256\":\"ab\"}]");
    assert_int_equal(count_events(&run, "metrics", "loss"), 2);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_result_that_cannot_go_on_the_shelf_fails_the_run(void **state)
{
    (void)state;
    finish_with = BM_IO;
    write_script(say_done);
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "failed");
    assert_string_equal(now.error, "the shelf is full");
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void junk_and_huge_lines_are_skipped_and_told_once(void **state)
{
    (void)state;
    write_script("echo 'not json'; echo '[1]'; echo '{\"event\":5}'; printf '\\377\\376\\n'; printf '\\000\\n'\n"
                 "head -c 300000 /dev/zero | tr '\\0' 'x'; echo\n"
                 "echo '{\"event\":\"step\",\"step\":-4,\"n_steps\":1e300,\"loss\":1}'\n"
                 "say '{\"event\":\"step\",\"step\":7,\"loss\":1}'\n"
                 "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "succeeded");
    assert_int_equal(now.step, 7);
    assert_int_equal(now.n_steps, 0);
    assert_int_equal(count_events(&run, "metrics", "loss"), 2);
    assert_int_equal(count_events(&run, "message", "its process wrote a line"), 1);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_child_that_floods_is_killed(void **state)
{
    (void)state;
    write_script("while :; do echo '{\"event\":\"noise\",\"a\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}'; done "
                 "| head -c 3000000; sleep 100");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "failed");
    assert_non_null(strstr(now.error, "more events than a job may"));
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_child_that_keeps_dying_is_tried_three_times(void **state)
{
    (void)state;
    write_script("kill -9 $$");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "failed");
    assert_int_equal(now.attempts, 3);
    assert_non_null(strstr(now.error, "signal 9"));
    assert_non_null(strstr(now.hint, run.id));
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_killed_child_goes_on_from_its_checkpoint_and_what_came_after_it_is_void(void **state)
{
    (void)state;
    write_script("if [ -e checkpoint ]; then\n"
                 "  say '{\"event\":\"start\",\"step\":2,\"n_steps\":3}'\n"
                 "  say '{\"event\":\"step\",\"step\":3,\"loss\":1.5}'\n"
                 "  say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'\n"
                 "else\n"
                 "  for i in 1 2 3; do say \"{\\\"event\\\":\\\"step\\\",\\\"step\\\":$i,\\\"loss\\\":9}\"; done\n"
                 "  touch checkpoint; printf '{\"event\":\"st'; kill -9 $$\n"
                 "fi");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "succeeded");
    assert_int_equal(now.attempts, 2);
    assert_int_equal(count_events(&run, "metrics", "\"loss\":9"), 2);
    assert_int_equal(count_events(&run, "metrics", "\"loss\":1.5"), 1);
    assert_int_equal(count_events(&run, "message", "signal 9"), 1);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void an_error_of_the_child_is_the_runs(void **state)
{
    (void)state;
    write_script("say '{\"event\":\"error\",\"message\":\"loss is not finite\",\"hint\":\"--lr 1e-5\"}'; exit 1");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "failed");
    assert_string_equal(now.error, "loss is not finite");
    assert_string_equal(now.hint, "--lr 1e-5");
    assert_int_equal(now.attempts, 1);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

/* Waits for a file, and writes its checkpoint when asked to stop. Without other programs: dash loses a signal that comes while it
 * starts one. */
static const char polite[] = "trap 'say \"{\\\"event\\\":\\\"stopped\\\",\\\"step\\\":5}\"; : > checkpoint; exit 0' TERM\n"
                             ": > up; until [ -e go ]; do :; done\n"
                             "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'";

static void a_stopped_run_can_be_resumed(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    wait_file(path_of(&run, "up"));
    assert_int_equal(bm_job_resume(store, run.id, &err), BM_EXISTS);
    assert_int_equal(bm_job_remove(store, run.id, &err), BM_BUSY);
    assert_int_equal(bm_job_stop(store, run.id, &err), 0);
    bm_jobs_wake(jobs);
    bm_run_row now = wait_state(&run, "stopped");
    assert_int_equal(access(path_of(&run, "checkpoint"), F_OK), 0);
    assert_int_equal(now.step, 5);
    bm_run_row_done(&now);
    fclose(fopen(path_of(&run, "go"), "w"));
    assert_int_equal(bm_job_resume(store, run.id, &err), 0);
    bm_jobs_wake(jobs);
    now = wait_state(&run, "succeeded");
    assert_int_equal(now.attempts, 2);
    bm_run_row_done(&now);
    assert_int_equal(bm_job_remove(store, run.id, &err), 0);
    assert_int_equal(access(path_of(&run, ""), F_OK), -1);
    assert_int_equal(bm_job_stop(store, run.id, &err), BM_NOTFOUND);
    bm_jobs_free(jobs);
}

static void one_that_ignores_the_request_to_stop_is_killed(void **state)
{
    bm_error err;

    (void)state;
    patience_seconds = 1;
    write_script("trap '' TERM; : > up; while :; do :; done");
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    wait_file(path_of(&run, "up"));
    assert_int_equal(bm_job_stop(store, run.id, &err), 0);
    bm_jobs_wake(jobs);
    bm_run_row now = wait_state(&run, "stopped");
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void runs_wait_for_each_other_and_a_waiting_one_stops_at_once(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row first = a_run("first"), second = a_run("second"), third = a_run("third");
    bm_jobs *jobs = open_jobs(false);
    wait_file(path_of(&first, "up"));
    assert_int_equal(bm_job_stop(store, second.id, &err), 0);
    bm_run_row now = wait_state(&second, "stopped");
    assert_int_equal(now.attempts, 0);
    bm_run_row_done(&now);
    now = wait_state(&third, "queued");
    bm_run_row_done(&now);
    fclose(fopen(path_of(&third, "go"), "w"));
    fclose(fopen(path_of(&first, "go"), "w"));
    now = wait_state(&first, "succeeded");
    bm_run_row_done(&now);
    now = wait_state(&third, "succeeded");
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void the_end_of_the_server_queues_the_run_for_the_next(void **state)
{
    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    wait_file(path_of(&run, "up"));
    bm_jobs_free(jobs);
    bm_run_row now = wait_state(&run, "queued");
    bm_run_row_done(&now);
    fclose(fopen(path_of(&run, "go"), "w"));
    jobs = open_jobs(false);
    now = wait_state(&run, "succeeded");
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

/* A process that looks after the run and dies by SIGKILL, as a server that crashed. */
static void crash_a_server(const bm_run_row *run)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        bm_error err;
        bm_store_open(&store, home, &err);
        open_jobs(false);
        wait_file(path_of(run, "up"));
        bm_run_row now = wait_state(run, "running");
        bm_run_row_done(&now);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_child_that_outlived_its_server_is_adopted(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_store_close(store);
    crash_a_server(&run);
    assert_int_equal(bm_store_open(&store, home, &err), 0);
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "running");
    bm_run_row_done(&now);
    fclose(fopen(path_of(&run, "go"), "w"));
    now = wait_state(&run, "succeeded");
    assert_int_equal(now.attempts, 1);
    assert_int_equal(atomic_load(&n_finished), 1);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void an_adopted_child_can_be_stopped_and_one_that_ended_meanwhile_is_concluded(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one"), other = a_run("other");
    bm_store_close(store);
    crash_a_server(&run);
    assert_int_equal(bm_store_open(&store, home, &err), 0);
    assert_int_equal(bm_job_stop(store, other.id, &err), 0);
    assert_int_equal(bm_job_stop(store, run.id, &err), 0);
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "stopped");
    assert_int_equal(access(path_of(&run, "checkpoint"), F_OK), 0);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);

    unlink(path_of(&run, "up"));
    assert_int_equal(bm_job_resume(store, run.id, &err), 0);
    bm_store_close(store);
    crash_a_server(&run);
    fclose(fopen(path_of(&run, "go"), "w"));
    assert_int_equal(bm_store_open(&store, home, &err), 0);
    jobs = open_jobs(false);
    now = wait_state(&run, "succeeded");
    assert_int_equal(now.attempts, 2);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_child_whose_pid_was_not_written_down_is_found(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_store_close(store);
    crash_a_server(&run);
    unlink(path_of(&run, "pid"));
    assert_int_equal(bm_store_open(&store, home, &err), 0);
    assert_int_equal(bm_job_stop(store, run.id, &err), 0);
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "stopped");
    assert_int_equal(access(path_of(&run, "checkpoint"), F_OK), 0);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void a_run_is_looked_after_by_one_process(void **state)
{
    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(false);
    wait_file(path_of(&run, "up"));
    bm_jobs *others = open_jobs(false);
    bm_jobs_wake(others);
    bm_jobs_free(others);                /* would end the child if it were theirs */
    bm_run_row now = wait_state(&run, "running");
    bm_run_row_done(&now);
    fclose(fopen(path_of(&run, "go"), "w"));
    now = wait_state(&run, "succeeded");
    assert_int_equal(now.attempts, 1);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void children_are_idle_first_to_go_and_inherit_nothing(void **state)
{
    char *text;
    size_t len;

    (void)state;
    setenv("SECRET_API_KEY", "hidden", 1);
    int leak = dup(0);                   /* a descriptor without CLOEXEC */
    /* Field 41 of stat is the policy: 5 is SCHED_IDLE. */
    write_script("until [ -e pid ]; do sleep 0.01; done\n"
                 "{ cut -d' ' -f41 /proc/$$/stat; cat /proc/$$/oom_score_adj; ulimit -c; ulimit -d; echo \"[$SECRET_API_KEY]\";"
                 " for f in /proc/$$/fd/*; do n=${f##*/}; [ $n -gt 3 ] && [ $n -lt 10 ] && [ -e $f ] && echo $n; done; } > facts\n"
                 "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'");
    bm_run_row run = { .kind = "tune", .name = "one", .settings = (char *)(uintptr_t)"{\"memory_mib\":1024}" };
    assert_int_equal(bm_job_create(store, &run, "{}", 2, NULL), 0);
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "succeeded");
    bm_run_row_done(&now);
    assert_int_equal(bm_read_file(&text, &len, path_of(&run, "facts"), 4096, NULL), 0);
    assert_string_equal(text, "5\n1000\n0\n1048576\n[]\n");
    bm_free(text);
    unsetenv("SECRET_API_KEY");
    close(leak);
    bm_jobs_free(jobs);
}

/* Field 41 of stat: 0 is the ordinary policy, 5 is SCHED_IDLE. */
static void eager_children_keep_their_priority_until_a_server_adopts_them(void **state)
{
    (void)state;
    write_script("until [ -e pid ]; do sleep 0.01; done\ncut -d' ' -f41 /proc/$$/stat > begun.new; mv begun.new begun\n"
                 "until [ \"$(cut -d' ' -f41 /proc/$$/stat)\" = 5 ]; do sleep 0.01; done\n"
                 "say '{\"event\":\"done\",\"result\":{\"loss\":1.5}}'");
    bm_run_row run = a_run("one");
    pid_t child = fork();
    if (child == 0) {                    /* the command in the foreground, which dies */
        bm_error err;
        bm_store_open(&store, home, &err);
        open_jobs_as(false, true);
        for (;;)
            pause();
    }
    wait_file(path_of(&run, "begun"));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    char *text;
    size_t len;
    assert_int_equal(bm_read_file(&text, &len, path_of(&run, "begun"), 64, NULL), 0);
    assert_string_equal(text, "0\n");
    bm_free(text);
    bm_jobs *jobs = open_jobs(false);
    bm_run_row now = wait_state(&run, "succeeded");
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static char process_state(const bm_run_row *run)
{
    char *text, path[48], line[512], state = '?';
    size_t len;
    long pid;

    assert_int_equal(bm_read_file(&text, &len, path_of(run, "pid"), 64, NULL), 0);
    pid = atol(text);
    bm_free(text);
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (f != NULL && fgets(line, sizeof line, f) != NULL && strrchr(line, ')') != NULL)
        state = strrchr(line, ')')[2];
    if (f != NULL)
        fclose(f);
    return state;
}

static void wait_stopped(const bm_run_row *run, bool stopped)
{
    for (int i = 0; (process_state(run) == 'T') != stopped; i++) {
        assert_true(i < 20000);
        usleep(5000);
    }
}

static void children_make_way_for_requests(void **state)
{
    bm_error err;

    (void)state;
    write_script(polite);
    bm_run_row run = a_run("one");
    bm_jobs *jobs = open_jobs(true);
    wait_file(path_of(&run, "up"));
    wait_file(path_of(&run, "pid"));
    atomic_store(&is_busy, true);
    wait_stopped(&run, true);
    atomic_store(&is_busy, false);
    wait_stopped(&run, false);
    atomic_store(&is_busy, true);
    wait_stopped(&run, true);
    assert_int_equal(bm_job_stop(store, run.id, &err), 0);       /* one that is paused hears it too */
    bm_jobs_wake(jobs);
    bm_run_row now = wait_state(&run, "stopped");
    assert_int_equal(access(path_of(&run, "checkpoint"), F_OK), 0);
    bm_run_row_done(&now);
    bm_jobs_free(jobs);
}

static void only_ids_become_paths(void **state)
{
    static const char *const bad[] = { "", "..", "ftjob-", "ftjob-../../etc", "ftjob-0123/456789", "x-0123456789", "eval-ABCDEF00",
                                       "ftjob-00000000000000000000000000000000000" };
    bm_buf out = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(bm_job_dir(&out, "/h", bad[i], NULL), BM_INVALID);
        assert_int_equal(out.len, 0);
    }
    assert_int_equal(bm_job_dir(&out, "/h", "ftjob-0123456789abcdef", NULL), 0);
    assert_string_equal(out.data, "/h/jobs/ftjob-0123456789abcdef");
    bm_buf_done(&out);
}

static void runs_are_found_by_id_name_and_beginning(void **state)
{
    bm_run_row old = a_run("tone"), latest = a_run("tone"), found;
    char part[16];

    (void)state;
    assert_int_equal(bm_job_find(store, "tune", "tone", &found, NULL), 0);
    assert_string_equal(found.id, latest.id);
    bm_run_row_done(&found);
    assert_int_equal(bm_job_find(store, NULL, old.id, &found, NULL), 0);
    assert_string_equal(found.id, old.id);
    bm_run_row_done(&found);
    snprintf(part, sizeof part, "%.10s", old.id + 6);
    assert_int_equal(bm_job_find(store, NULL, part, &found, NULL), 0);
    assert_string_equal(found.id, old.id);
    bm_run_row_done(&found);
    assert_int_equal(bm_job_find(store, "eval", old.id, &found, NULL), BM_NOTFOUND);
    assert_int_equal(bm_job_find(store, NULL, "ftjob", &found, NULL), BM_INVALID);
    assert_int_equal(bm_job_find(store, NULL, "nothing", &found, NULL), BM_NOTFOUND);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(events_are_stored_and_a_done_run_is_put_on_the_shelf_once),
        T(a_result_that_cannot_go_on_the_shelf_fails_the_run),
        T(junk_and_huge_lines_are_skipped_and_told_once),
        T(a_child_that_floods_is_killed),
        T(a_child_that_keeps_dying_is_tried_three_times),
        T(a_killed_child_goes_on_from_its_checkpoint_and_what_came_after_it_is_void),
        T(an_error_of_the_child_is_the_runs),
        T(a_stopped_run_can_be_resumed),
        T(one_that_ignores_the_request_to_stop_is_killed),
        T(runs_wait_for_each_other_and_a_waiting_one_stops_at_once),
        T(the_end_of_the_server_queues_the_run_for_the_next),
        T(a_child_that_outlived_its_server_is_adopted),
        T(an_adopted_child_can_be_stopped_and_one_that_ended_meanwhile_is_concluded),
        T(a_child_whose_pid_was_not_written_down_is_found),
        T(a_run_is_looked_after_by_one_process),
        T(children_are_idle_first_to_go_and_inherit_nothing),
        T(eager_children_keep_their_priority_until_a_server_adopts_them),
        T(children_make_way_for_requests),
        T(only_ids_become_paths),
        T(runs_are_found_by_id_name_and_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
