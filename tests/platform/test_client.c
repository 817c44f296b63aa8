/* The client of the local socket, against a server thread that answers as told. */
#include "home_kit.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "platform/client.h"
#include "platform/home.h"

typedef struct server { int fd; const char *answer; size_t len; char request[1024]; } server;

static void *serve_once(void *arg)
{
    server *s = arg;
    int fd = accept(s->fd, NULL, NULL);
    size_t have = 0;

    while (have < sizeof s->request - 1) {
        ssize_t n = recv(fd, s->request + have, sizeof s->request - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
        s->request[have] = '\0';
        if (strstr(s->request, "\r\n\r\n") != NULL)
            break;
    }
    for (size_t i = 0; i < s->len; i++)                          /* byte by byte, the worst a server may do */
        if (send(fd, s->answer + i, 1, MSG_NOSIGNAL) != 1)
            break;
    close(fd);
    return NULL;
}

static int ask(const char *answer, int *status, char **body, size_t *len, char request[1024], bm_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    server s = { .answer = answer, .len = strlen(answer) };
    pthread_t thread;

    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", kit_home);
    unlink(address.sun_path);
    s.fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s.fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(s.fd, 1), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve_once, &s), 0);
    int rc = bm_client_get(address.sun_path, "/v1/ps", "bm-key", status, body, len, err);
    pthread_join(thread, NULL);
    close(s.fd);
    memcpy(request, s.request, sizeof s.request);
    return rc;
}

static void bodies_of_every_kind_are_read(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more",
        "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    };
    char *body, request[1024];
    size_t len;
    int status;
    bm_error err;

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        assert_int_equal(ask(answers[i], &status, &body, &len, request, &err), 0);
        assert_int_equal(status, 200);
        assert_int_equal(len, 5);
        assert_string_equal(body, "hello");
        bm_free(body);
    }
    assert_memory_equal(request, "GET /v1/ps HTTP/1.1\r\nHost: localhost\r\n", 38);
    assert_non_null(strstr(request, "Authorization: Bearer bm-key\r\n"));
}

static void broken_answers_are_errors(void **state)
{
    static const char *const answers[] = {
        "", "HTTP/1.1 200", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    char *body, request[1024];
    size_t len;
    int status;
    bm_error err;

    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        assert_int_equal(ask(answers[i], &status, &body, &len, request, &err), BM_IO);
        assert_null(body);
    }
}

static void no_server_is_told_apart(void **state)
{
    char *body, path[200], socket_path[108];
    size_t len;
    int status;
    bm_error err;

    (void)state;
    assert_int_equal(bm_client_get(kit_path("none.sock"), "/", NULL, &status, &body, &len, &err), BM_NOTFOUND);
    memset(path, 'a', sizeof path - 1), path[0] = '/', path[sizeof path - 1] = '\0';
    assert_int_equal(bm_client_get(path, "/", NULL, &status, &body, &len, &err), BM_INVALID);
    assert_int_equal(bm_home_socket(socket_path, path, &err), BM_INVALID);
    assert_int_equal(bm_home_socket(socket_path, "/h", &err), 0);
    assert_string_equal(socket_path, "/h/baimo.sock");
}

static void home_comes_from_the_environment(void **state)
{
    char *home, expected[600], cwd[400];
    bm_error err;

    (void)state;
    setenv("BAIMO_HOME", "/a/b//", 1);
    assert_int_equal(bm_home_path(&home, &err), 0);
    assert_string_equal(home, "/a/b");
    bm_free(home);
    setenv("BAIMO_HOME", "here", 1);
    snprintf(expected, sizeof expected, "%s/here", getcwd(cwd, sizeof cwd));
    assert_int_equal(bm_home_path(&home, &err), 0);
    assert_string_equal(home, expected);
    bm_free(home);
    unsetenv("BAIMO_HOME");
    setenv("XDG_DATA_HOME", "/x", 1);
    assert_int_equal(bm_home_path(&home, &err), 0);
    assert_string_equal(home, "/x/baimo");
    bm_free(home);
    unsetenv("XDG_DATA_HOME");
    setenv("HOME", "/h", 1);
    assert_int_equal(bm_home_path(&home, &err), 0);
    assert_string_equal(home, "/h/.local/share/baimo");
    bm_free(home);
}

#define T(f) cmocka_unit_test_setup_teardown(f, kit_make, kit_remove)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(bodies_of_every_kind_are_read),
        T(broken_answers_are_errors),
        T(no_server_is_told_apart),
        T(home_comes_from_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
