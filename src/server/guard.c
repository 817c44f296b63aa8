/* guard.c - Host, Origin and keys. */
#include "server/guard.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/number.h"

enum { MAX_NAME = 256 };

typedef struct name { struct name *next; bool any_port; char text[]; } name;

struct bm_guard {
    bm_store *store;
    name *names;                 /* lower case, no trailing dot, IPv6 without brackets */
    int port;
    bool needs_key;
};

/* Host or host:port into a bare lower-case name; *port is -1 when there is none. false: not an authority. */
static bool split_authority(const char *s, char host[MAX_NAME], int *port)
{
    const char *end, *rest, *marks = "-._";
    int64_t p = -1;

    if (*s == '[') {
        marks = ":.%";
        if ((end = strchr(++s, ']')) == NULL)
            return false;
        rest = end + 1;
    } else {
        rest = end = s + strcspn(s, ":");
    }
    size_t len = (size_t)(end - s);
    if (*rest == ':' && rest[1] != '\0' && !bm_parse_int(rest + 1, 0, 65535, &p))
        return false;
    if (*rest != '\0' && *rest != ':')
        return false;
    if (len > 0 && s[len - 1] == '.')
        len--;
    if (len == 0 || len >= MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++) {
        host[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
        if (!((host[i] >= 'a' && host[i] <= 'z') || (host[i] >= '0' && host[i] <= '9') || strchr(marks, host[i]) != NULL))
            return false;
    }
    host[len] = '\0';
    *port = (int)p;
    return true;
}

static int add_name(bm_guard *g, const char *text, bool any_port, bm_error *err)
{
    char host[MAX_NAME], bracketed[MAX_NAME];
    int port;

    if (strchr(text, ':') != NULL && *text != '[') {             /* a bare IPv6 address */
        snprintf(bracketed, sizeof bracketed, "[%.250s]", text);
        text = bracketed;
    }
    if (!split_authority(text, host, &port)) {
        bm_fail(err, BM_INVALID, "'%.80s' is not a host name", text);
        return bm_hint(err, "--allow-host takes a name like chat.example.org");
    }
    name *n = bm_zalloc(sizeof *n + strlen(host) + 1);
    if (n == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for a host name");
    strcpy(n->text, host);
    n->any_port = any_port;
    n->next = g->names;
    g->names = n;
    return 0;
}

static int add_interfaces(bm_guard *g, bm_error *err)
{
    struct ifaddrs *list, *i;
    char text[INET6_ADDRSTRLEN];
    int rc = 0;

    if (getifaddrs(&list) != 0)
        return 0;
    for (i = list; i != NULL && rc == 0; i = i->ifa_next) {
        const void *at = i->ifa_addr, *addr = NULL;
        if (at != NULL && i->ifa_addr->sa_family == AF_INET)
            addr = &((const struct sockaddr_in *)at)->sin_addr;
        else if (at != NULL && i->ifa_addr->sa_family == AF_INET6)
            addr = &((const struct sockaddr_in6 *)at)->sin6_addr;
        if (addr != NULL && inet_ntop(i->ifa_addr->sa_family, addr, text, sizeof text) != NULL)
            rc = add_name(g, text, false, err);
    }
    freeifaddrs(list);
    return rc;
}

static bool is_wildcard(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0 || strcmp(host, "[::]") == 0;
}

bool bm_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    char bare[MAX_NAME];
    int port;

    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (*host == '[' && split_authority(host, bare, &port))
        host = bare;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

int bm_guard_new(bm_guard **out, bm_store *store, const char *bind_host, int port, const char *const *allow, size_t n_allow,
                 bm_error *err)
{
    static const char *const always[] = { "localhost", "127.0.0.1", "::1" };
    char machine[MAX_NAME] = "";
    bm_guard *g = bm_zalloc(sizeof *g);
    int rc = 0;

    *out = NULL;
    if (g == NULL)
        return bm_fail(err, BM_NOMEM, "no memory for the guard");
    g->store = store;
    g->port = port;
    g->needs_key = !bm_host_is_loopback(bind_host);
    for (size_t i = 0; i < 3 && rc == 0; i++)
        rc = add_name(g, always[i], false, err);
    if (rc == 0 && gethostname(machine, sizeof machine - 1) == 0 && *machine != '\0')
        rc = add_name(g, machine, false, NULL) == BM_NOMEM ? BM_NOMEM : 0;       /* a machine may have an odd name */
    if (rc == 0)
        rc = is_wildcard(bind_host) ? add_interfaces(g, err) : add_name(g, bind_host, false, err);
    for (size_t i = 0; i < n_allow && rc == 0; i++)
        rc = add_name(g, allow[i], true, err);
    if (rc < 0) {
        bm_guard_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void bm_guard_free(bm_guard *guard)
{
    if (guard == NULL)
        return;
    for (name *n = guard->names, *next; n != NULL; n = next) {
        next = n->next;
        bm_free(n);
    }
    bm_free(guard);
}

static const name *find_name(const bm_guard *g, const char *host, bool any_port)
{
    for (const name *n = g->names; n != NULL; n = n->next)
        if (strcmp(n->text, host) == 0 && (!any_port || n->any_port))
            return n;
    return NULL;
}

int bm_guard_host(const bm_guard *guard, const char *host, bm_error *err)
{
    char bare[MAX_NAME];
    int port;

    if (host != NULL && split_authority(host, bare, &port) && find_name(guard, bare, false) != NULL)
        return 0;
    bm_fail(err, BM_FORBIDDEN, "this server does not answer to the host '%.80s'", host == NULL ? "" : host);
    return bm_hint(err, "if that name is meant to reach it, start it with: baimo serve --allow-host NAME");
}

int bm_guard_origin(const bm_guard *guard, const char *origin, const char *host, bm_error *err)
{
    char bare[MAX_NAME], host_name[MAX_NAME];
    int port, host_port;
    bool tls;

    if (origin == NULL)
        return 0;
    tls = strncasecmp(origin, "https://", 8) == 0;
    if ((tls || strncasecmp(origin, "http://", 7) == 0) && split_authority(strchr(origin, '/') + 2, bare, &port)) {
        if (find_name(guard, bare, true) != NULL)
            return 0;
        int wanted = port >= 0 ? port : tls ? 443 : 80;
        if (find_name(guard, bare, false) != NULL &&
            (wanted == guard->port || (host != NULL && split_authority(host, host_name, &host_port) && port == host_port)))
            return 0;
    }
    bm_fail(err, BM_FORBIDDEN, "a page of '%.80s' may not use this server", origin);
    return bm_hint(err, "if that page is meant to, start the server with: baimo serve --allow-host NAME");
}

static bool key_is_needed(bm_guard *guard)
{
    bool any = false;

    if (guard->needs_key)
        return true;
    if (bm_key_any(guard->store, &any, NULL) < 0)
        return true;                                 /* when the store cannot say: fail closed */
    guard->needs_key = any;
    return guard->needs_key;
}

int bm_guard_key(bm_guard *guard, const char *authorization, unsigned scope, bm_key *key, bm_error *err)
{
    *key = (bm_key){ 0 };
    if (!key_is_needed(guard))
        return 0;
    if (authorization == NULL || strncasecmp(authorization, "Bearer", 6) != 0 ||
        (authorization[6] != ' ' && authorization[6] != '\t')) {
        bm_fail(err, BM_AUTH, "this server needs an API key, and the request has none");
        return bm_hint(err, "send 'Authorization: Bearer KEY'; make a key with: baimo key add NAME");
    }
    const char *secret = authorization + 7 + strspn(authorization + 7, " \t");
    return bm_key_check(guard->store, secret, scope, key, err);
}
