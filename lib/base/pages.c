/* SPDX-License-Identifier: MIT */
#include "base/pages.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

int paged_open(struct paged_file *f, const char *path)
{
    paged_close(f);
    f->path = xstrdup(path);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0)
        return error_errno("cannot open '%s'", path);
    f->direct = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    struct stat st;
    if (f->direct < 0 || fstat(f->fd, &st) != 0 || st.st_size == 0)
        return 0;
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, f->fd, 0);
    if (map != MAP_FAILED) {
        f->map = map;
        f->mapped = st.st_size;
    }
    return 0;
}

/* Whether the page cache has the page of this byte. It has where the system does not tell: of files that the
 * process may not write and does not own. */
static bool has_page(const struct paged_file *f, int64_t at)
{
    unsigned char there = 1;
    int64_t page = page_bytes();
    return !f->map || at >= f->mapped || mincore(f->map + (at - at % page), (size_t)page, &there) != 0 ||
           there & 1;
}

/* The page cache gives up what is oldest, and reads ahead of what is asked for: both ends are looked at. */
int paged_read(const struct paged_file *f, void *p, size_t bytes, int64_t offset)
{
    if (f->direct < 0 || (has_page(f, offset) && has_page(f, offset + (int64_t)bytes - 1)))
        return pread_all(f->fd, p, bytes, offset, f->path);
    return pread_direct(f->fd, f->direct, p, bytes, offset, f->path);
}

void paged_close(struct paged_file *f)
{
    if (f->map)
        munmap(f->map, (size_t)f->mapped);
    if (f->fd >= 0)
        close(f->fd);
    if (f->fd >= 0 && f->direct >= 0)
        close(f->direct);
    free(f->path);
    *f = (struct paged_file){.fd = -1, .direct = -1};
}
