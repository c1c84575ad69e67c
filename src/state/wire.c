#include "state/wire.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- addresses */

static uint32_t ip_of(const struct sockaddr *address) {
    struct sockaddr_in in;
    memcpy(&in, address, sizeof in);
    return ntohl(in.sin_addr.s_addr);
}

static uint32_t prefix_of(const struct sockaddr *mask) {
    uint32_t bits = 0;
    for (uint32_t m = mask != NULL ? ip_of(mask) : UINT32_MAX; m != 0; m <<= 1)
        bits++;
    return bits;
}

void swt_offers_find(swt_offers *out) {
    struct ifaddrs *list = NULL;
    memset(out, 0, sizeof *out);
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i != NULL && out->count < SWT_OFFERS; i = i->ifa_next) {
        const unsigned needed = IFF_UP | IFF_RUNNING;
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET ||
            (i->ifa_flags & (needed | IFF_LOOPBACK)) != needed)
            continue;
        out->at[out->count].ip = ip_of(i->ifa_addr);
        out->at[out->count].prefix = prefix_of(i->ifa_netmask);
        out->count++;
    }
    freeifaddrs(list);
}

static bool same_network(uint32_t a, uint32_t b, uint32_t prefix) {
    const uint64_t differ = a ^ b; /* 64 bits: a prefix of 0 shifts by 32 */
    return differ >> (32 - (prefix < 32 ? prefix : 32)) == 0;
}

/* What an address is to another machine's offers. */
typedef enum reach { REACH_NEAR, REACH_FAR, REACH_TAKEN } reach;

static reach reach_from(uint32_t ip, uint32_t prefix, const swt_offers *other) {
    reach found = REACH_FAR;
    for (uint32_t i = 0; i < other->count && i < SWT_OFFERS; i++) {
        if (other->at[i].ip == ip)
            return REACH_TAKEN;
        if (same_network(ip, other->at[i].ip, prefix))
            found = REACH_NEAR;
    }
    return found;
}

uint32_t swt_offers_choose(const swt_offers *all, int ranks, int own) {
    uint32_t second = 0;
    for (uint32_t i = 0; i < all[own].count && i < SWT_OFFERS; i++) {
        const uint32_t ip = all[own].at[i].ip;
        reach worst = REACH_NEAR;
        for (int r = 0; r < ranks; r++) {
            if (memcmp(&all[r], &all[own], sizeof *all) == 0)
                continue;
            const reach from = reach_from(ip, all[own].at[i].prefix, &all[r]);
            worst = from > worst ? from : worst;
        }
        if (worst == REACH_NEAR)
            return ip;
        if (worst == REACH_FAR && second == 0)
            second = ip;
    }
    return second;
}

/* ---- sockets */

static swt_status failed(const char *call, int fd) {
    const int error = errno;
    if (fd >= 0)
        close(fd);
    return SWT_FAIL(COMM, "%s: %s; ranks must reach each other over TCP", call, strerror(error));
}

static struct sockaddr_in address_of(uint32_t ip, uint16_t port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    in.sin_addr.s_addr = htonl(ip);
    return in;
}

/* Beats are small and wait for nothing. */
static bool prepare(int fd) {
    const int yes = 1, flags = fcntl(fd, F_GETFL);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

swt_status swt_wire_listen(int *fd, uint16_t *port, uint32_t ip) {
    struct sockaddr_in in = address_of(ip, 0);
    socklen_t bytes = sizeof in;
    *fd = -1;
    const int made = socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0)
        return failed("socket", made);
    if (!prepare(made))
        return failed("fcntl", made);
    if (bind(made, (const struct sockaddr *)(const void *)&in, sizeof in) != 0)
        return failed("bind", made);
    if (listen(made, SOMAXCONN) != 0)
        return failed("listen", made);
    if (getsockname(made, (struct sockaddr *)(void *)&in, &bytes) != 0)
        return failed("getsockname", made);
    *fd = made;
    *port = ntohs(in.sin_port);
    return SWT_OK;
}

/* Wait until a connection that has begun is there. False, and errno, where it does not come. */
static bool await_connection(int fd, double until_ms) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int found = 0, error = ETIMEDOUT;
    socklen_t bytes = sizeof error;
    for (;;) {
        const double left_ms = until_ms - swt_now_ms();
        found = poll(&p, 1, left_ms > 0.0 ? (int)left_ms + 1 : 0);
        if (found != 0 && !(found < 0 && errno == EINTR))
            break;
        if (found == 0 && left_ms <= 0.0)
            break;
    }
    if (found > 0)
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
    errno = error;
    return error == 0;
}

swt_status swt_wire_connect(int *fd, uint32_t ip, uint16_t port, double within_ms) {
    const struct sockaddr_in in = address_of(ip, port);
    const double until_ms = swt_now_ms() + within_ms;
    *fd = -1;
    const int made = socket(AF_INET, SOCK_STREAM, 0);
    if (made < 0)
        return failed("socket", made);
    if (!prepare(made))
        return failed("fcntl", made);
    if (connect(made, (const struct sockaddr *)(const void *)&in, sizeof in) != 0 &&
        (errno != EINPROGRESS || !await_connection(made, until_ms)))
        return failed("connect", made);
    *fd = made;
    return SWT_OK;
}

int swt_wire_accept(int listener) {
    const int fd = accept(listener, NULL, NULL);
    if (fd >= 0 && !prepare(fd)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- links */

void swt_link_open(swt_link *l, int fd) {
    *l = (swt_link){.fd = fd};
}

void swt_link_close(swt_link *l) {
    if (l->fd >= 0)
        close(l->fd);
    *l = (swt_link){.fd = -1};
}

bool swt_link_read(swt_link *l) {
    if (l->in_bytes == SWT_BEAT_BYTES)
        l->in_bytes = 0;
    const ssize_t n = recv(l->fd, l->in + l->in_bytes, SWT_BEAT_BYTES - l->in_bytes, MSG_DONTWAIT);
    if (n > 0)
        l->in_bytes += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        l->shut = true;
    return n > 0 && l->in_bytes == SWT_BEAT_BYTES;
}

void swt_link_flush(swt_link *l) {
    while (l->fd >= 0 && l->out_bytes > 0) {
        const ssize_t n = send(l->fd, l->out, l->out_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return; /* full; or broken, which reading finds, after what came before */
        l->out_bytes -= (size_t)n;
        memmove(l->out, l->out + n, l->out_bytes);
    }
}

void swt_link_send(swt_link *l, const unsigned char message[SWT_BEAT_BYTES]) {
    if (l->fd < 0)
        return;
    if (l->out_bytes + SWT_BEAT_BYTES <= sizeof l->out) {
        memcpy(l->out + l->out_bytes, message, SWT_BEAT_BYTES);
        l->out_bytes += SWT_BEAT_BYTES;
    }
    swt_link_flush(l);
}
