/* A stand-in for libnvidia-ml.so.1: it answers from the text file that STANDIN_NVML names, one line a fact.
 *
 *   init CODE            what nvmlInit returns (0: success)
 *   hang WHERE           `init`, `driver`, `count` or `memory N`: that call sleeps for a minute
 *   crash init           that call ends in a segmentation fault
 *   driver TEXT, cuda NUMBER
 *   gpu CODE MAJOR MINOR BYTES MIG UUID NAME     CODE: what asking for its handle returns; BYTES 0: not supported
 *   slice BYTES UUID NAME                        a MIG instance of the last gpu
 *   log PATH             every nvmlInit writes `init PID` there
 *
 * Compiled with -DOLD it lacks what drivers before 418 lack. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, LIBRARY_NOT_FOUND = 12 };

struct thing { int code, major, minor, mig, parent; unsigned long long bytes; char uuid[96], name[96]; };
static struct thing things[256];
static int count, init_code, cuda, hang_init, hang_driver, hang_count, hang_memory = -1, crash;
static char driver[96], log_path[512];

static int parent_of_last(void) {
    int i = count - 1;
    while (i >= 0 && things[i].parent >= 0) i--;
    return i;
}

static void load(void) {
    static int loaded;
    char line[1024];
    FILE *file;
    const char *path = getenv("STANDIN_NVML");
    if (loaded || !path || !(file = fopen(path, "r"))) return;
    loaded = 1;
    while (fgets(line, sizeof line, file)) {
        struct thing t;
        memset(&t, 0, sizeof t);
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "init %d", &init_code) == 1) continue;
        if (!strcmp(line, "hang init")) hang_init = 1;
        if (!strcmp(line, "hang driver")) hang_driver = 1;
        if (!strcmp(line, "hang count")) hang_count = 1;
        if (sscanf(line, "hang memory %d", &hang_memory) == 1) continue;
        if (!strcmp(line, "crash init")) crash = 1;
        if (sscanf(line, "driver %95s", driver) == 1) continue;
        if (sscanf(line, "cuda %d", &cuda) == 1) continue;
        if (sscanf(line, "log %511s", log_path) == 1) continue;
        t.parent = -1;
        if (sscanf(line, "gpu %d %d %d %llu %d %95s %95[^\n]", &t.code, &t.major, &t.minor, &t.bytes, &t.mig, t.uuid,
                   t.name) == 7)
            things[count++] = t;
        else if (sscanf(line, "slice %llu %95s %95[^\n]", &t.bytes, t.uuid, t.name) == 3) {
            t.parent = parent_of_last();
            things[count++] = t;
        }
    }
    fclose(file);
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    load();
    if (log_path[0]) {
        FILE *log = fopen(log_path, "a");
        if (log) { fprintf(log, "init %d\n", (int)getpid()); fclose(log); }
    }
    if (hang_init) sleep(60);
    if (crash) *(volatile int *)0 = 0;
    return init_code;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) {
    switch (code) {
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "RM has detected an NVML/RM version mismatch.";
    default: return "Unknown Error";
    }
}
int nvmlSystemGetDriverVersion(char *out, unsigned length) {
    if (hang_driver) sleep(60);
    snprintf(out, length, "%s", driver);
    return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion(int *out) { *out = cuda; return cuda ? SUCCESS : NOT_SUPPORTED; }
static int whole(int index) { /* the position of the index-th thing that is not a slice */
    for (int i = 0; i < count; i++)
        if (things[i].parent < 0 && index-- == 0) return i;
    return -1;
}
int nvmlDeviceGetCount_v2(unsigned *out) {
    if (hang_count) sleep(60);
    *out = 0;
    while (whole((int)*out) >= 0) ++*out;
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    int i = whole((int)index);
    if (i < 0) return INVALID_ARGUMENT;
    *out = &things[i];
    return things[i].code;
}
int nvmlDeviceGetName(struct thing *t, char *out, unsigned length) {
    snprintf(out, length, "%s", t->name);
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(struct thing *t, unsigned long long out[3]) {
    if (t - things == hang_memory) sleep(60);
    if (!t->bytes) return NOT_SUPPORTED;
    out[0] = out[1] = t->bytes;
    out[2] = 0;
    return SUCCESS;
}
int nvmlDeviceGetUUID(struct thing *t, char *out, unsigned length) {
    snprintf(out, length, "%s", t->uuid);
    return SUCCESS;
}
#ifndef OLD
int nvmlDeviceGetCudaComputeCapability(struct thing *t, int *major, int *minor) {
    *major = t->major;
    *minor = t->minor;
    return SUCCESS;
}
int nvmlDeviceGetMigMode(struct thing *t, unsigned *now, unsigned *next) {
    *now = *next = (unsigned)t->mig;
    return t->mig < 0 ? NOT_SUPPORTED : SUCCESS;
}
int nvmlDeviceGetMaxMigDeviceCount(struct thing *t, unsigned *out) { *out = t->mig > 0 ? 7 : 0; return SUCCESS; }
int nvmlDeviceGetMigDeviceHandleByIndex(struct thing *t, unsigned index, void **out) {
    for (int i = (int)(t - things) + 1; i < count && things[i].parent == t - things; i++)
        if (index-- == 0) { *out = &things[i]; return SUCCESS; }
    return NOT_FOUND;
}
#endif
