/* Connections, with real sockets against a loop in a thread of its own: framing, pipelining, limits, and clients that leave.
 * The handler answers /now at once, holds /hold until the test lets go, streams /stream. Nothing here sleeps: the test waits
 * for what the handler reports. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/http.h"

static struct event_base *base;
static bm_http *http;
static pthread_t loop;
static int port;
static bm_exchange *held;                    /* the last held exchange */
static sem_t n_held, n_gone, n_done;
static struct event *act;
static void (*action)(void);                 /* runs on the loop when act fires */

/* A sink that counts: refuses what holds '!', takes at most 200,000 bytes. */
static struct counter { bm_body_sink sink; size_t bytes; int n_drops; } counter;

static int count_take(bm_body_sink *sink, const void *bytes, size_t len, const char **why)
{
    counter.bytes += len;
    *why = "not that";
    return sink == &counter.sink && memchr(bytes, '!', len) == NULL ? 0 : 418;
}

static void count_drop(bm_body_sink *sink)
{
    counter.n_drops += sink == &counter.sink;
    sem_post(&n_gone);
}

static bool on_head(void *arg, bm_exchange *x)
{
    (void)arg;
    if (strcmp(x->head.target, "/sink") == 0) {
        counter = (struct counter){ .sink = { count_take, count_drop, 200000 } };
        x->sink = &counter.sink;
        return false;
    }
    if (strcmp(x->head.target, "/refused") != 0)
        return false;
    bm_exchange_status(x, 403, "no", NULL, NULL);
    return true;
}

static void on_request(void *arg, bm_exchange *x)
{
    (void)arg;
    if (strcmp(x->head.target, "/sink") == 0) {
        char text[64];
        snprintf(text, sizeof text, "sunk %zu kept %zu", counter.bytes, x->body.len);
        x->sink = NULL;
        bm_exchange_reply(x, 200, "text/plain", NULL, text, strlen(text));
    } else if (strcmp(x->head.target, "/hold") == 0) {
        held = x;
        sem_post(&n_held);
    } else if (strcmp(x->head.target, "/stream") == 0) {
        held = x;
        bm_exchange_stream(x, "text/plain", NULL);
        bm_exchange_send(x, "hello ", 6);
        sem_post(&n_held);
    } else {
        bm_exchange_reply(x, 200, "text/plain", NULL, x->body.len > 0 ? x->body.data : "ok", x->body.len > 0 ? x->body.len : 2);
    }
}

static void on_gone(void *arg, bm_exchange *x)
{
    (void)arg, (void)x;
    held = NULL;
    sem_post(&n_gone);
}

static void on_quiet(void *arg) { (void)arg; }

static void on_act(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    action();
    sem_post(&n_done);
}

static void on_loop(void (*what)(void))
{
    action = what;
    event_active(act, EV_TIMEOUT, 1);
    sem_wait(&n_done);
}

static void *run_loop(void *arg)
{
    (void)arg;
    event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

static int set_up(void **state)
{
    bm_http_handler handler = { on_head, on_request, on_gone, on_quiet, NULL };
    bm_http_limits limits = { .max_body_bytes = 100000, .max_bodies_bytes = 300000, .max_output_bytes = 1 << 20,
                              .max_connections = 50, .head_seconds = 30, .idle_seconds = 30, .stall_seconds = 30 };
    bm_error err;

    (void)state;
    sem_init(&n_held, 0, 0);
    sem_init(&n_gone, 0, 0);
    sem_init(&n_done, 0, 0);
    evthread_use_pthreads();
    base = event_base_new();
    act = event_new(base, -1, EV_PERSIST, on_act, NULL);
    if (bm_http_new(&http, base, &handler, &limits, &err) < 0 || bm_http_listen(http, "127.0.0.1", &port, &err) < 0)
        return -1;
    return pthread_create(&loop, NULL, run_loop, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    event_base_loopbreak(base);
    pthread_join(loop, NULL);
    bm_http_free(http);
    event_free(act);
    event_base_loop(base, EVLOOP_NONBLOCK);          /* what freed connections still had deferred, as bm_server_free does */
    event_base_free(base);
    libevent_global_shutdown();
    return 0;
}

static int dial(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval limit = { 20, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);   /* a hang fails instead of hanging */
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    size_t len = strlen(text);

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Read until `mark` has come n times. */
static char got[1 << 20];
static void get_until(int fd, const char *mark, int n)
{
    size_t len = 0;

    got[0] = '\0';
    for (;;) {
        int seen = 0;
        for (char *p = got; (p = strstr(p, mark)) != NULL; p += strlen(mark))
            seen++;
        if (seen >= n)
            return;
        ssize_t r = recv(fd, got + len, sizeof got - 1 - len, 0);
        if (r <= 0)
            fail_msg("closed or silent before '%s' came %d times: %s", mark, n, got);
        len += (size_t)r;
        got[len] = '\0';
    }
}

static void assert_closed(int fd)
{
    char c[4096];
    ssize_t r;

    while ((r = recv(fd, c, sizeof c, 0)) > 0)
        ;
    assert_true(r == 0);
    close(fd);
}

static void release_held(void)
{
    assert_non_null(held);
    bm_exchange_reply(held, 200, "text/plain", NULL, "released", 8);
    held = NULL;
}

static const char get_now[] = "GET /now HTTP/1.1\r\nHost: a\r\n\r\n", get_hold[] = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";

static void a_request_byte_by_byte_is_answered(void **state)
{
    static const char text[] = "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    int fd = dial();

    (void)state;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        char one[2] = { text[i], '\0' };
        put(fd, one);
    }
    get_until(fd, "\r\n\r\nhello", 1);
    close(fd);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    char many[8192] = "";
    int fd = dial();

    (void)state;
    for (int i = 0; i < 100; i++)
        strcat(many, get_now);
    put(fd, many);
    get_until(fd, "HTTP/1.1 200 OK", 100);
    put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nONEPOST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nTWO");
    get_until(fd, "TWO", 1);
    assert_non_null(strstr(got, "ONE"));
    assert_true(strstr(got, "ONE") < strstr(got, "TWO"));
    close(fd);
}

static void what_is_pipelined_behind_a_held_request_waits_for_it(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, get_hold);
    sem_wait(&n_held);
    put(fd, get_now);                        /* the byte that would end a process with evhttp's own read callback */
    put(fd, "G");
    on_loop(release_held);
    get_until(fd, "HTTP/1.1 200 OK", 2);
    assert_true(strstr(got, "released") < strstr(got, "ok"));
    put(fd, "ET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    get_until(fd, "ok", 1);
    close(fd);
}

static void a_client_that_leaves_a_held_request_is_seen_at_once(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, get_hold);
    sem_wait(&n_held);
    close(fd);
    sem_wait(&n_gone);
}

static void a_client_that_leaves_a_stream_is_seen_at_once(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    sem_wait(&n_held);
    get_until(fd, "hello ", 1);
    close(fd);
    sem_wait(&n_gone);
}

static void a_client_that_pipelines_more_than_the_watermark_and_leaves_is_seen(void **state)
{
    int fd = dial(), sent = 0;
    char *flood = malloc(1 << 20);

    (void)state;
    memset(flood, 'x', 1 << 20);
    put(fd, get_hold);
    sem_wait(&n_held);
    /* Until the server's window is shut: it stopped reading, so the end of input cannot be read either. */
    for (ssize_t n; sent < (32 << 20) && (n = send(fd, flood, 1 << 20, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0;)
        sent += (int)n;
    assert_true(sent > (1 << 18));
    struct linger reset = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    sem_wait(&n_gone);
    free(flood);
}

static void half_a_request_harms_no_one(void **state)
{
    static const char text[] = "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf";
    int other = dial();

    (void)state;
    for (size_t n = 1; n < sizeof text; n++) {
        int fd = dial();
        send(fd, text, n, MSG_NOSIGNAL);
        close(fd);
    }
    put(other, get_now);
    get_until(other, "ok", 1);
    close(other);
}

static void chunked_bodies_are_joined(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n");
    get_until(fd, "\r\n\r\nabc0123456789", 1);
    put(fd, get_now);
    get_until(fd, "ok", 1);
    close(fd);
    static const char *const bad[] = { "x\r\n", "3\r\nabcd\r\n", "-3\r\nabc\r\n", "ffffffffffffffff\r\n" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fd = dial();
        put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        put(fd, bad[i]);
        get_until(fd, "HTTP/1.1 4", 1);
        shutdown(fd, SHUT_WR);
        assert_closed(fd);
    }
}

static void a_body_over_the_limit_is_refused_in_json_while_the_client_still_sends(void **state)
{
    char *body = malloc(200000);
    int fd = dial();

    (void)state;
    memset(body, 'b', 199999);
    body[199999] = '\0';
    put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 199999\r\n\r\n");
    put(fd, body);
    get_until(fd, "request_id", 1);
    assert_non_null(strstr(got, "HTTP/1.1 413"));
    assert_non_null(strstr(got, "\"code\":\"too_large\""));
    shutdown(fd, SHUT_WR);
    assert_closed(fd);
    fd = dial();                             /* a chunked body tells its size too late: refused when it is over */
    put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 2; i++) {
        char line[16];
        sprintf(line, "%x\r\n", 60000);
        put(fd, line);
        body[60000] = '\0';
        put(fd, body);
        put(fd, "\r\n");
    }
    get_until(fd, "HTTP/1.1 413", 1);
    close(fd);
    free(body);
}

static int n_connections;
static void count_connections(void) { n_connections = bm_http_connections(http); }

static void bodies_together_are_limited(void **state)
{
    int fds[4];

    (void)state;
    do
        on_loop(count_connections);          /* those of the tests before count until the server has seen them leave */
    while (n_connections > 0);
    for (int i = 0; i < 4; i++) {
        fds[i] = dial();
        put(fds[i], "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\nExpect: 100-continue\r\n\r\n");
        get_until(fds[i], i < 3 ? "HTTP/1.1 100 Continue" : "HTTP/1.1 503", 1);
    }
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    for (;;) {                               /* their share comes back once the server has seen them leave */
        int fd = dial();
        put(fd, "POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\nExpect: 100-continue\r\n\r\n");
        get_until(fd, "HTTP/1.1 ", 1);
        close(fd);
        if (strstr(got, "HTTP/1.1 100") != NULL)
            break;
    }
}

static void a_refused_head_with_a_body_closes_and_without_one_goes_on(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "GET /refused HTTP/1.1\r\nHost: a\r\n\r\nGET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    get_until(fd, "ok", 1);
    assert_non_null(strstr(got, "403"));
    put(fd, "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nGET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    get_until(fd, "Connection: close", 1);
    shutdown(fd, SHUT_WR);
    assert_closed(fd);
}

static void a_head_over_the_limit_is_refused(void **state)
{
    char *big = malloc(40000);
    int fd = dial();

    (void)state;
    memset(big, 'h', 39999);
    big[39999] = '\0';
    put(fd, "GET / HTTP/1.1\r\nX: ");
    put(fd, big);
    get_until(fd, "HTTP/1.1 431", 1);
    close(fd);
    free(big);
}

static void nonsense_gets_400_and_the_connection_closes(void **state)
{
    static const char *const bad[] = { "hello\r\n\r\n", "\x16\x03\x01\x02\x00\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n" };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        int fd = dial();
        put(fd, bad[i]);
        if (strlen(bad[i]) > 4)
            get_until(fd, "HTTP/1.1 400", 1);
        shutdown(fd, SHUT_WR);
        assert_closed(fd);
    }
}

static void http_1_0_and_head_requests_work(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "GET /now HTTP/1.0\r\n\r\n");
    get_until(fd, "ok", 1);
    assert_closed(fd);
    fd = dial();
    put(fd, "GET /stream HTTP/1.0\r\n\r\n");
    sem_wait(&n_held);
    get_until(fd, "hello ", 1);
    assert_null(strstr(got, "chunked"));
    close(fd);
    sem_wait(&n_gone);
    fd = dial();
    put(fd, "HEAD /now HTTP/1.1\r\nHost: a\r\n\r\nGET /now HTTP/1.1\r\nHost: a\r\n\r\n");
    get_until(fd, "\r\n\r\nok", 1);
    assert_non_null(strstr(got, "\r\n\r\nHTTP/1.1 200"));
    close(fd);
}

static void a_client_that_closes_its_side_after_the_request_still_gets_the_reply(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, get_now);
    shutdown(fd, SHUT_WR);
    get_until(fd, "ok", 1);
    assert_closed(fd);
}

static void send_much(void)
{
    static char block[65536];

    memset(block, 's', sizeof block);
    for (int i = 0; i < 2000 && held != NULL; i++)
        if (!bm_exchange_send(held, block, sizeof block))
            held = NULL;
}

static void a_reader_who_never_reads_is_dropped_at_the_cap(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    sem_wait(&n_held);
    on_loop(send_much);
    assert_null(held);
    close(fd);
}

static void end_stream(void)
{
    bm_exchange_send(held, "world", 5);
    bm_exchange_end(held);
}

static void a_stream_ends_and_the_connection_goes_on(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    sem_wait(&n_held);
    on_loop(end_stream);
    get_until(fd, "5\r\nworld\r\n0\r\n\r\n", 1);
    put(fd, get_now);
    get_until(fd, "ok", 1);
    close(fd);
}

static int local_rc;
static char local_path[64];
static bm_error local_err;
static void listen_local(void) { local_rc = bm_http_listen_unix(http, local_path, &local_err); }

static void the_unix_socket_is_private_and_not_stolen(void **state)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    int fd;

    (void)state;
    snprintf(local_path, sizeof local_path, "/tmp/baimo-http-%d.sock", (int)getpid());
    fd = open(local_path, O_CREAT | O_RDWR, 0644);       /* a dead file in its place */
    close(fd);
    on_loop(listen_local);
    assert_int_equal(local_rc, 0);
    assert_int_equal(stat(local_path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    strcpy(a.sun_path, local_path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    put(fd, get_now);
    get_until(fd, "ok", 1);
    close(fd);
    on_loop(listen_local);
    assert_int_equal(local_rc, BM_EXISTS);
}

static int second_rc;
static bm_error second_err;
static void listen_again(void)
{
    int p = port;
    second_rc = bm_http_listen(http, "127.0.0.1", &p, &second_err);
}

static void a_port_in_use_is_an_error_that_names_the_next_step(void **state)
{
    (void)state;
    on_loop(listen_again);
    assert_int_equal(second_rc, BM_EXISTS);
    assert_non_null(strstr(second_err.hint, "--port"));
}

static void connections_over_the_limit_wait_until_one_leaves(void **state)
{
    int fds[60];

    (void)state;
    for (int i = 0; i < 60; i++)
        fds[i] = dial();
    for (int i = 0; i < 40; i++)
        close(fds[i]);
    put(fds[59], get_now);
    get_until(fds[59], "ok", 1);
    for (int i = 40; i < 60; i++)
        close(fds[i]);
}

static void put_body(int fd, size_t len, char fill)
{
    static char bytes[1000];

    memset(bytes, fill, sizeof bytes);
    for (size_t n; len > 0; len -= n) {
        n = len < sizeof bytes ? len : sizeof bytes;
        if (send(fd, bytes, n, MSG_NOSIGNAL) < 0)
            return;                                  /* refused on the way */
    }
}

static void a_body_with_a_sink_is_not_kept_and_may_be_larger(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");      /* bodies in memory: 100,000 */
    put_body(fd, 200000, 'a');
    get_until(fd, "sunk 200000 kept 0", 1);
    put(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    get_until(fd, "sunk 5 kept 0", 1);
    assert_int_equal(counter.n_drops, 0);
    close(fd);
}

static void a_sink_is_dropped_when_its_request_does_not_come_to_its_handler(void **state)
{
    int fd = dial();

    (void)state;
    put(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 200001\r\n\r\n");
    get_until(fd, "413", 1);
    close(fd);
    sem_wait(&n_gone);
    fd = dial();
    put(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    put_body(fd, 10000, 'a');
    put_body(fd, 1000, '!');
    get_until(fd, "418", 1);
    close(fd);
    sem_wait(&n_gone);
    fd = dial();
    put(fd, "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n");
    put_body(fd, 10000, 'a');
    close(fd);                                       /* the client leaves */
    sem_wait(&n_gone);
    assert_int_equal(counter.n_drops, 1);
}

static void drain_now(void) { bm_http_drain(http); }

static void draining_closes_idle_connections_and_finishes_held_ones(void **state)
{
    int idle = dial(), busy = dial();

    (void)state;
    put(idle, get_now);
    get_until(idle, "ok", 1);
    put(busy, get_hold);
    sem_wait(&n_held);
    on_loop(drain_now);
    assert_closed(idle);
    on_loop(release_held);
    get_until(busy, "released", 1);
    assert_non_null(strstr(got, "Connection: close"));
    shutdown(busy, SHUT_WR);
    assert_closed(busy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_byte_by_byte_is_answered),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(what_is_pipelined_behind_a_held_request_waits_for_it),
        cmocka_unit_test(a_client_that_leaves_a_held_request_is_seen_at_once),
        cmocka_unit_test(a_client_that_leaves_a_stream_is_seen_at_once),
        cmocka_unit_test(a_client_that_pipelines_more_than_the_watermark_and_leaves_is_seen),
        cmocka_unit_test(half_a_request_harms_no_one),
        cmocka_unit_test(chunked_bodies_are_joined),
        cmocka_unit_test(a_body_over_the_limit_is_refused_in_json_while_the_client_still_sends),
        cmocka_unit_test(bodies_together_are_limited),
        cmocka_unit_test(a_refused_head_with_a_body_closes_and_without_one_goes_on),
        cmocka_unit_test(a_head_over_the_limit_is_refused),
        cmocka_unit_test(nonsense_gets_400_and_the_connection_closes),
        cmocka_unit_test(http_1_0_and_head_requests_work),
        cmocka_unit_test(a_client_that_closes_its_side_after_the_request_still_gets_the_reply),
        cmocka_unit_test(a_reader_who_never_reads_is_dropped_at_the_cap),
        cmocka_unit_test(a_stream_ends_and_the_connection_goes_on),
        cmocka_unit_test(the_unix_socket_is_private_and_not_stolen),
        cmocka_unit_test(a_port_in_use_is_an_error_that_names_the_next_step),
        cmocka_unit_test(connections_over_the_limit_wait_until_one_leaves),
        cmocka_unit_test(a_body_with_a_sink_is_not_kept_and_may_be_larger),
        cmocka_unit_test(a_sink_is_dropped_when_its_request_does_not_come_to_its_handler),
        cmocka_unit_test(draining_closes_idle_connections_and_finishes_held_ones),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
