/* Stand-in for malloc.c. */
#include "memory.h"
static const uint16_t classes[] = {8,16,24,32,48,64,80,96,112,128,144,160,176,192,208,224,240,256,288,320,352,384,416,448,480,512,576,640,704,768,896,1024,1152,1280,1408,1536,1792,2048,2304,2688,3072,3200,3456,4096,4864,5120,5376,6144,6528,6784,6912,8192,9472,9728,10240,10880,12288,13568,14336,16384,18432,19072,20480,21760,24576,27264,28672,32768};
void *mem_alloc(size_t size, bool zero) { return zero ? calloc(1, size) : malloc(size); }
void mem_free(void *p) { free(p); }
size_t mem_round(size_t size)
{
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (size <= classes[i]) return classes[i];
    }
    return (size + 8191) & ~(size_t)8191;
}
