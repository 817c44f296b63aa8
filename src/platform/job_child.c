/* job_child.c - see job_child.h.
 *
 * `alive` is what tells a living child from a dead one: the parent locks it and the child inherits the descriptor as number 3, so
 * the lock goes exactly when the last process of the job does, also when the parent died first. A pid alone could be anyone's. */
#define _GNU_SOURCE
#include "platform/job_child.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ALIVE_FD = 3, MAX_ENV = 1024 };
extern char **environ;

static int open_in(const char *dir, const char *name, int flags, bm_error *err)
{
    bm_buf path = { 0 };

    bm_buf_printf(&path, "%s/%s", dir, name);
    int fd = path.failed ? -1 : open(path.data, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        bm_fail(err, BM_IO, "%s/%s: cannot open: %s", dir, name, path.failed ? "no memory" : strerror(errno));
    bm_buf_done(&path);
    return fd;
}

/* A child that was killed may have left half a line: the next one's first line must not be joined to it. */
static int open_events(const char *dir, bm_error *err)
{
    char last = '\n';
    int fd = open_in(dir, "events.jsonl", O_RDWR | O_CREAT | O_APPEND, err);

    if (fd < 0)
        return fd;
    off_t len = lseek(fd, 0, SEEK_END);
    if (len > 0 && pread(fd, &last, 1, len - 1) == 1 && last != '\n' && write(fd, "\n", 1) != 1) {
        bm_fail(err, BM_IO, "%s/events.jsonl: cannot write: %s", dir, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}

static int64_t start_time(pid_t pid)
{
    char path[48], text[1024];
    long long start = 0;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = '\0';
    const char *at = strrchr(text, ')');             /* the name before may hold anything */
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld", &start) != 1)
        return 0;
    return start;
}

/* First to be killed when memory ends, no core dump, a budget. What the system refuses is left as it is. */
static void set_limits(pid_t pid, int64_t memory_bytes)
{
    struct rlimit none = { 0, 0 }, budget = { (rlim_t)memory_bytes, (rlim_t)memory_bytes };
    char path[48];

    prlimit(pid, RLIMIT_CORE, &none, NULL);
    if (memory_bytes > 0)
        prlimit(pid, RLIMIT_DATA, &budget, NULL);
    snprintf(path, sizeof path, "/proc/%ld/oom_score_adj", (long)pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, "1000", 4);
        (void)n;
        close(fd);
    }
}

/* Of all threads of a process; what they start later inherits it. */
static void set_policy(pid_t pid, int policy)
{
    struct sched_param zero = { 0 };
    struct dirent *e;
    char path[48];

    snprintf(path, sizeof path, "/proc/%ld/task", (long)pid);
    DIR *tasks = opendir(path);
    while (tasks != NULL && (e = readdir(tasks)) != NULL)
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
            sched_setscheduler((pid_t)atol(e->d_name), policy, &zero);
    if (tasks != NULL)
        closedir(tasks);
}

/* Secrets of this process are none of a job's. */
static void child_environment(const char *out[MAX_ENV])
{
    size_t n = 0;

    for (char **e = environ; *e != NULL && n < MAX_ENV - 1; e++) {
        const char *end = strchr(*e, '=');
        size_t len = end == NULL ? 0 : (size_t)(end - *e);
        if (len < 7 || memcmp(end - 7, "API_KEY", 7) != 0)
            out[n++] = *e;
    }
    out[n] = NULL;
}

static int prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *attr, int events, int log, int alive)
{
    sigset_t none, usual;
    int rc;

    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGTERM), sigaddset(&usual, SIGINT), sigaddset(&usual, SIGHUP), sigaddset(&usual, SIGPIPE);
    /* High numbers first: 1, 2 and 3 themselves may be taken by what is moved. */
    if ((rc = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0)) != 0 ||
        (rc = posix_spawn_file_actions_adddup2(files, events, 1)) != 0 ||
        (rc = posix_spawn_file_actions_adddup2(files, log, 2)) != 0 ||
        (rc = posix_spawn_file_actions_adddup2(files, alive, ALIVE_FD)) != 0 ||
        (rc = posix_spawn_file_actions_addclosefrom_np(files, ALIVE_FD + 1)) != 0 ||
        (rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)) != 0 ||
        (rc = posix_spawnattr_setsigmask(attr, &none)) != 0)
        return rc;
    return posix_spawnattr_setsigdefault(attr, &usual);
}

/* The descriptor again with a number that the moves in the child do not touch. */
static int move_up(int fd)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 16);

    if (fd >= 0)
        close(fd);
    return moved;
}

static int start(pid_t *pid, const char *program, const char *dir, int events, int log, int alive, bm_error *err)
{
    char *argv[] = { (char *)(uintptr_t)"baimo", (char *)(uintptr_t)"job", (char *)(uintptr_t)dir, NULL };
    const char *env[MAX_ENV];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    int rc;

    child_environment(env);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    if ((rc = prepare(&files, &attr, events, log, alive)) == 0)
        rc = posix_spawn(pid, program, &files, &attr, argv, (char **)(uintptr_t)env);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    return rc == 0 ? 0 : bm_fail(err, BM_IO, "cannot start a job's process (%s): %s", program, strerror(rc));
}

static int write_pid(const bm_child *child, const char *dir, bm_error *err)
{
    bm_buf path = { 0 };
    char text[64];
    int rc, n = snprintf(text, sizeof text, "%ld %lld\n", (long)child->pid, (long long)child->start);

    bm_buf_printf(&path, "%s/pid", dir);
    rc = path.failed ? bm_fail(err, BM_NOMEM, "%s: no memory", dir) : bm_write_file(path.data, text, (size_t)n, 0600, err);
    bm_buf_done(&path);
    return rc;
}

int bm_child_spawn(bm_child *out, const bm_child_options *options, const char *dir, bm_error *err)
{
    int rc = 0, events, log = -1, alive = -1;

    *out = (bm_child){ .ours = true };
    events = move_up(open_events(dir, err));
    log = events < 0 ? -1 : move_up(open_in(dir, "log.txt", O_WRONLY | O_CREAT | O_APPEND, err));
    alive = log < 0 ? -1 : move_up(open_in(dir, "alive", O_RDWR | O_CREAT, err));
    if (alive < 0)
        rc = BM_IO;
    else if (flock(alive, LOCK_EX | LOCK_NB) < 0)
        rc = bm_fail(err, BM_BUSY, "%s: its process is running already", dir);
    else
        rc = start(&out->pid, options->program == NULL ? "/proc/self/exe" : options->program, dir, events, log, alive, err);
    if (rc == 0) {
        set_limits(out->pid, options->memory_bytes);
        out->start = start_time(out->pid);
        if (!options->eager)
            bm_child_idle(out);
        rc = write_pid(out, dir, err);
        if (rc < 0) {                                /* nobody could find it again */
            kill(-out->pid, SIGKILL);
            waitpid(out->pid, NULL, 0);
        }
    }
    if (alive >= 0)
        close(alive);
    if (log >= 0)
        close(log);
    if (events >= 0)
        close(events);
    return rc;
}

/* 1: someone holds the lock. */
static int is_alive(const char *dir, bm_error *err)
{
    int fd = open_in(dir, "alive", O_RDWR | O_CREAT, err), rc;

    if (fd < 0)
        return BM_IO;
    rc = flock(fd, LOCK_EX | LOCK_NB) < 0;
    close(fd);
    return rc;
}

/* Its parent may have died between starting it and writing its pid down: the process whose command line ends with "job DIR". */
static pid_t find_process(const char *dir)
{
    DIR *proc = opendir("/proc");
    struct dirent *e;
    char path[300], end[4200], text[8192];
    size_t len, want = (size_t)snprintf(end, sizeof end, "job%c%.4096s", 0, dir) + 1;
    pid_t found = 0;

    while (proc != NULL && found == 0 && (e = readdir(proc)) != NULL) {
        if (e->d_name[0] < '1' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);
        if (fd >= 0)
            close(fd);
        len = n < 0 ? 0 : (size_t)n;
        if (len > want && text[len - want - 1] == '\0' && memcmp(text + len - want, end, want) == 0)
            found = (pid_t)atol(e->d_name);
    }
    if (proc != NULL)
        closedir(proc);
    return found;
}

int bm_child_find(bm_child *out, const char *dir, bm_error *err)
{
    bm_buf path = { 0 };
    char *text = NULL;
    long long start = 0;
    long pid = 0;
    size_t len;
    int rc;

    *out = (bm_child){ 0 };
    if ((rc = is_alive(dir, err)) != 1)
        return rc;
    bm_buf_printf(&path, "%s/pid", dir);
    if (!path.failed && bm_read_file(&text, &len, path.data, 64, NULL) == 0 && sscanf(text, "%ld %lld", &pid, &start) == 2 &&
        pid > 1 && start_time((pid_t)pid) == start)
        *out = (bm_child){ .pid = (pid_t)pid, .start = start };
    else if ((pid = find_process(dir)) > 1)
        *out = (bm_child){ .pid = (pid_t)pid, .start = start_time((pid_t)pid) };
    bm_free(text);
    bm_buf_done(&path);
    return 1;
}

int bm_child_poll(bm_child *child, const char *dir, bm_child_end *end)
{
    siginfo_t info = { .si_pid = 0 };
    int status;

    *end = (bm_child_end){ 0 };
    if (!child->ours)
        return is_alive(dir, NULL) == 0;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != child->pid)
        return 0;
    kill(-child->pid, SIGKILL);                      /* what it may have started must not go on holding the run */
    waitpid(child->pid, &status, 0);
    *end = (bm_child_end){ .known = true, .status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                           .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0 };
    child->pid = 0;
    return 1;
}

bool bm_child_signal(const bm_child *child, int signal)
{
    if (child->pid <= 1 || (!child->ours && start_time(child->pid) != child->start))
        return false;
    return kill(-child->pid, signal) == 0;
}

void bm_child_idle(const bm_child *child)
{
    if (child->pid > 1 && start_time(child->pid) == child->start)
        set_policy(child->pid, SCHED_IDLE);
}

void bm_child_hurry(const bm_child *child)
{
    if (child->pid > 1 && start_time(child->pid) == child->start)
        set_policy(child->pid, SCHED_OTHER);
}
