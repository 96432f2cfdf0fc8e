/* A library for LD_PRELOAD. It disturbs a process at one of the calls that change files.

   The environment variable MOMENT says how. With "kill 17 /folder /log" the library kills the
   process at call number 17. It counts from 0, and only the calls that change something in /folder.
   It writes these calls to /log. "full" makes this call and all later ones fail, as on a full disk.
   "fail" makes only this call fail, as a bad sector does. "count" makes none fail. A write is two
   moments: before it, and when half of it is done. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

static char how[16], folder[PATH_MAX];
static long at;
static int log_file = -1;
static atomic_long count;

/* Returns whether a path is in the folder. Relative paths are: it is the working directory. */
static int is_inside(const char *path)
{
    const char *said = how[0] ? NULL : getenv("MOMENT");
    char log[PATH_MAX] = "/dev/null";
    if (said && sscanf(said, "%15s %ld %4095s %4095s", how, &at, folder, log) >= 3)
        log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    return how[0] && path && (path[0] != '/' || !strncmp(path, folder, strlen(folder)));
}

static const char *path_of(int file)
{
    static _Thread_local char path[PATH_MAX];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return path[0] == '/' ? path : "/"; /* pipes have other names */
}

/* Returns the error that a call must fail with, or 0. */
static int moment(const char *call, const char *path)
{
    if (!is_inside(path))
        return 0;
    long now = atomic_fetch_add(&count, 1);
    dprintf(log_file, "%s %s\n", call, path);
    if (!strcmp(how, "kill") && now == at)
        while (1)
            kill(getpid(), SIGKILL);
    int removes = strstr(call, "unlink") || strstr(call, "rmdir");
    if (!strcmp(how, "full") && now >= at && !removes)
        return ENOSPC;
    return !strcmp(how, "fail") && now == at ? EIO : 0;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_AT_MOMENT(call, path, result) \
    if ((errno = moment(call, path))) return result

#define ON_PATH(name, types, arguments, path) \
    int name types { FAIL_AT_MOMENT(#name, path, -1); return REAL(name) arguments; }

ON_PATH(rename, (const char *from, const char *to), (from, to), to)
ON_PATH(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to), to)
ON_PATH(unlink, (const char *path), (path), path)
ON_PATH(unlinkat, (int at, const char *path, int flags), (at, path, flags), path)
ON_PATH(rmdir, (const char *path), (path), path)
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode), path)
ON_PATH(truncate, (const char *path, off_t size), (path, size), path)
ON_PATH(truncate64, (const char *path, off_t size), (path, size), path)
ON_PATH(ftruncate, (int file, off_t size), (file, size), path_of(file))
ON_PATH(ftruncate64, (int file, off_t size), (file, size), path_of(file))
ON_PATH(fsync, (int file), (file), path_of(file))
ON_PATH(fdatasync, (int file), (file), path_of(file))

#define OPEN(name, types, arguments) \
    int name types \
    { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) \
            FAIL_AT_MOMENT("open", path, -1); \
        return REAL(name) arguments; \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) \
    { \
        if (strpbrk(mode, "wa+")) FAIL_AT_MOMENT("fopen", path, NULL); \
        return REAL(name)(path, mode); \
    }

FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int file, const void *data, size_t size)
{
    const char *path = path_of(file);
    FAIL_AT_MOMENT("write", path, -1);
    if (size > 1 && is_inside(path)) {
        ssize_t half = REAL(write)(file, data, size / 2);
        FAIL_AT_MOMENT("write, second half", path, -1);
        ssize_t rest = half < 0 ? 0 : REAL(write)(file, (char *)data + half, size - half);
        return rest < 0 ? half : half + rest;
    }
    return REAL(write)(file, data, size);
}

#define SENDFILE(name, offset_type) \
    ssize_t name(int to, int from, offset_type *offset, size_t size) \
    { \
        FAIL_AT_MOMENT("sendfile", path_of(to), -1); \
        return REAL(name)(to, from, offset, size); \
    }

SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

size_t fwrite(const void *data, size_t size, size_t number, FILE *file)
{
    const char *path = path_of(fileno(file));
    if (!is_inside(path))
        return REAL(fwrite)(data, size, number, file);
    FAIL_AT_MOMENT("fwrite", path, 0);
    size_t half = REAL(fwrite)(data, size, number / 2, file);
    REAL(fflush)(file); /* otherwise a kill would lose this half too */
    FAIL_AT_MOMENT("fwrite, second half", path, half);
    return half + REAL(fwrite)((char *)data + half * size, size, number - half, file);
}

int fflush(FILE *file)
{
    if (file) FAIL_AT_MOMENT("fflush", path_of(fileno(file)), EOF);
    return REAL(fflush)(file);
}

int fclose(FILE *file)
{
    int error = moment("fclose", path_of(fileno(file)));
    int result = REAL(fclose)(file);
    if (error) errno = error;
    return error ? EOF : result;
}
