/* Plays the version check of NVIDIA's kernel module for a genuine libnvidia-ml.so.1, on a machine
 * without a GPU. Linux on x86-64, glibc.
 *
 *   cc -shared -fPIC -O1 -o kernel_gate.so kernel_gate.c -ldl
 *   KVER=535.261.03 LD_PRELOAD=./kernel_gate.so PROGRAM
 *
 * nvmlInit asks the module whether it is of the very same version (ioctl 210 of type 'F' on
 * /dev/nvidiactl; NV_ESC_CHECK_VERSION_STR in NVIDIA/open-gpu-kernel-modules). Here the module's
 * version is KVER. Where the library's differs, nvmlInit is 18 (driver/library version mismatch);
 * where it is equal the gate opens, nothing stands behind it, and nvmlInit is 9 (driver not loaded).
 *
 * No device node is made, and nothing is executed, by a library that runs under this gate.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FILES 4096

static const struct node {
    const char *path;
    unsigned major, minor;
} nodes[] = {
    {"/dev/nvidiactl", 195, 255},
    {"/dev/nvidia0", 195, 0},
    {"/dev/nvidia-uvm", 510, 0},
};

/* By file descriptor: the node it stands for. */
static const struct node *opened[FILES];

static const struct node *find(const char *path)
{
    for (size_t n = 0; path && n < sizeof nodes / sizeof *nodes; n++)
        if (!strcmp(path, nodes[n].path))
            return &nodes[n];
    return NULL;
}

static const struct node *at(int fd)
{
    return fd >= 0 && fd < FILES ? opened[fd] : NULL;
}

static int describe(const struct node *node, struct stat *to)
{
    memset(to, 0, sizeof *to);
    to->st_mode = S_IFCHR | 0666;
    to->st_rdev = makedev(node->major, node->minor);
    return 0;
}

static int open_it(const char *path, int flags, mode_t mode)
{
    const struct node *node = find(path);
    int fd = syscall(SYS_openat, AT_FDCWD, node ? "/dev/null" : path, flags, mode);
    if (node && fd >= 0 && fd < FILES)
        opened[fd] = node;
    return fd;
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int fd = open_it(path, flags, mode_of(flags, rest));
    va_end(rest);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int fd = open_it(path, flags, mode_of(flags, rest));
    va_end(rest);
    return fd;
}

int close(int fd)
{
    if (at(fd))
        opened[fd] = NULL;
    return syscall(SYS_close, fd);
}

int __xstat(int version, const char *path, struct stat *to)
{
    static int (*real)(int, const char *, struct stat *);
    const struct node *node = find(path);
    if (node)
        return describe(node, to);
    if (!real)
        real = dlsym(RTLD_NEXT, "__xstat");
    return real(version, path, to);
}

int __xstat64(int version, const char *path, struct stat64 *to)
{
    return __xstat(version, path, (struct stat *)to);
}

int __fxstat(int version, int fd, struct stat *to)
{
    static int (*real)(int, int, struct stat *);
    if (at(fd))
        return describe(at(fd), to);
    if (!real)
        real = dlsym(RTLD_NEXT, "__fxstat");
    return real(version, fd, to);
}

int access(const char *path, int mode)
{
    return find(path) ? 0 : syscall(SYS_faccessat, AT_FDCWD, path, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    static const char *const files[][2] = {
        {"/proc/devices", "Character devices:\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n"},
        {"/proc/modules", "nvidia 100 0 - Live 0x0\nnvidia_uvm 100 0 - Live 0x0\n"},
        {"/proc/driver/nvidia/params",
         "DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\nModifyDeviceFiles: 1\n"},
    };
    for (size_t n = 0; n < sizeof files / sizeof *files; n++)
        if (!strcmp(path, files[n][0]))
            return fmemopen((void *)files[n][1], strlen(files[n][1]), "r");
    if (!real)
        real = dlsym(RTLD_NEXT, "fopen");
    return real(path, mode);
}

/* What would make a node, or have nvidia-modprobe make it. */
int __xmknod(int version, const char *path, mode_t mode, dev_t *device)
{
    (void)version, (void)path, (void)mode, (void)device;
    return 0;
}

int chmod(const char *path, mode_t mode)
{
    return find(path) ? 0 : syscall(SYS_fchmodat, AT_FDCWD, path, mode);
}

int execle(const char *path, const char *word, ...)
{
    (void)path, (void)word;
    errno = ENOENT;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    struct check {
        unsigned command, reply;
        char version[64];
    };
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (!at(fd))
        return syscall(SYS_ioctl, fd, request, argument);
    errno = EINVAL;
    if (_IOC_TYPE(request) != 'F' || _IOC_NR(request) != 210)
        return -1;
    struct check *check = argument;
    const char *version = getenv("KVER") ? getenv("KVER") : "";
    int is_equal = !strncmp(check->version, version, sizeof check->version);
    int is_same_branch = !strncmp(check->version, version, strcspn(version, ".") + 1);
    int is_question = check->command == '2', is_relaxed = check->command == '1';
    check->reply = 1;
    snprintf(check->version, sizeof check->version, "%s", version);
    return is_question || is_equal || (is_relaxed && is_same_branch) ? 0 : -1;
}
