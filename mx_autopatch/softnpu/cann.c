/* The soft NPU's stand-in for the CANN runtime: device memory is host memory, and
 * everything that a stream would do later is done at once.
 *
 * torch_npu links some of these functions and looks the others up by name. Here are
 * those that have something to do; `names.py` lists the ones that merely succeed and the
 * ones that refuse, and `build.py` adds them below. The prototypes are those of CANN's
 * headers, which the torch_npu wheel ships (acl_rt.h, acl_op.h, acl_op_compiler.h,
 * acl_prof.h, aprof_pub.h): a test compiles this file after them, so that one that
 * deviates does not compile. Enums are passed as unsigned, and as int where one of their
 * values is negative: what they are to C.
 *
 * Kernels are not here. What torch_npu would hand to one is refused, with the operator's
 * name: the Python side replaces every operator before it comes this far.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef INC_EXTERNAL_ACL_ACL_RT_H_            /* compiled without those headers */
typedef int aclError;
typedef void *aclrtStream, *aclrtEvent, *aclrtContext, *aclrtDrvMemHandle, *aclmdlRI;
typedef void (*aclrtCallback)(void *);
typedef void (*aclrtHostFunc)(void *);
typedef struct aclTensorDesc aclTensorDesc;
typedef struct aclDataBuffer aclDataBuffer;
typedef struct aclopAttr aclopAttr;
typedef struct aclprofConfig aclprofConfig;
typedef struct aclprofAicoreEvents aclprofAicoreEvents;
typedef struct aclrtMallocConfig aclrtMallocConfig;
typedef struct aclrtPhysicalMemProp aclrtPhysicalMemProp;
typedef struct aclrtMemUsageInfo aclrtMemUsageInfo;
typedef struct { char bytes[16]; } aclrtUuid;
typedef struct {
    int32_t cubeUtilization, vectorUtilization, aicpuUtilization, memoryUtilization;
    void *utilizationExtend;
} aclrtUtilizationInfo;
typedef struct {
    char version[128];
    char majorVersion[64], minorVersion[64], releaseVersion[64], patchVersion[64];
    char reserved[128];
} aclCANNPackageVersion;
#endif

enum {
    OK = 0,
    BAD_ARGUMENT = 107000,
    NO_CONTEXT = 107002,
    NOT_SUPPORTED = 200001,                   /* at 207000 torch_npu but warns, and goes on */
    NO_MEMORY = 207001,
};
enum { MAX_DEVICES = 64 };
enum { AI_CORES = 24, VECTOR_CORES = 48, L2_CACHE = 192 << 20 }; /* Ascend 910B */

/* ---- errors ------------------------------------------------------------------------ */

static _Thread_local char message[512];

static aclError fail(aclError code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return code;
}

static aclError unsupported(const char *function) {
    return fail(NOT_SUPPORTED, "the soft NPU has no %s", function);
}

/* It is told once: else torch_npu would put it below errors that came of something else. */
const char *aclGetRecentErrMsg(void) {
    static _Thread_local char told[sizeof message];
    memcpy(told, message, sizeof message);
    message[0] = '\0';
    return told;
}

/* ---- devices ----------------------------------------------------------------------- */

static int devices = 1;
static size_t capacity = (size_t)64 << 30;    /* bytes of memory of each device */
static atomic_size_t used[MAX_DEVICES];
static atomic_int active[MAX_DEVICES];        /* has been the device of some thread */
static char contexts[MAX_DEVICES];            /* their addresses are the contexts */
static _Thread_local int chosen = -1;         /* the thread's device; none at first */

/* Once, since the environment may change, but the machine does not. runtime.py has
 * checked both before it loads this library. */
__attribute__((constructor)) static void look_at_environment(void) {
    const char *count = getenv("MX_AUTOPATCH_SOFT_DEVICES");
    const char *memory = getenv("MX_AUTOPATCH_SOFT_MEMORY");
    if (count && *count)
        devices = atoi(count);
    if (devices < 0 || devices > MAX_DEVICES)
        devices = 1;
    if (memory && *memory) {
        char *unit;
        capacity = strtoull(memory, &unit, 10);
        const char *place = *unit ? strchr("KMGT", *unit) : NULL;
        if (place)
            capacity <<= 10 * (place - "KMGT" + 1);
    }
}

/* Kernels compute into memory of the host, and copy the result to the device. malloc would
 * fetch that memory from the system for each large result, and give it back: every page of
 * it is a fault, a third of the time of a small network. So let it keep some. */
__attribute__((constructor)) static void keep_host_memory(void) {
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20);      /* the most that glibc takes */
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    mallopt(M_TOP_PAD, 16 << 20);
#endif
}

/* The thread's device; that of a thread which chose none is the first one. */
static int here(void) { return chosen < 0 ? 0 : chosen; }

aclError aclInit(const char *config) {
    (void)config;
    return OK;
}

const char *aclrtGetSocName(void) { return "Ascend910B1"; }

/* Not of CANN: for runtime.py, where a check on fake tensors needs a device to name. */
void soft_npu_show_one(void) {
    if (!devices) {
        devices = 1;
        capacity = 0; /* nothing is computed on it, so nothing shall be kept on it */
    }
}

aclError aclrtGetDeviceCount(uint32_t *count) {
    *count = (uint32_t)devices;
    return OK;
}

static aclError absent(int64_t id) {
    return fail(BAD_ARGUMENT, "no soft NPU %lld: there are %d (MX_AUTOPATCH_SOFT_DEVICES)",
                (long long)id, devices);
}

aclError aclrtSetDevice(int32_t id) {
    if (id < 0 || id >= devices)
        return absent(id);
    chosen = id;
    atomic_store(&active[id], 1);
    return OK;
}

aclError aclrtGetDevice(int32_t *id) {
    if (chosen < 0)
        return fail(NO_CONTEXT, "this thread has not chosen a soft NPU");
    *id = chosen;
    return OK;
}

aclError aclrtGetCurrentContext(aclrtContext *context) {
    if (chosen < 0)
        return fail(NO_CONTEXT, "this thread has not chosen a soft NPU");
    *context = &contexts[chosen];
    return OK;
}

aclError aclrtSetCurrentContext(aclrtContext context) {
    for (int id = 0; id < devices; id++)
        if (context == &contexts[id])
            return aclrtSetDevice(id);
    return fail(BAD_ARGUMENT, "not a context of a soft NPU: %p", context);
}

aclError aclrtGetPrimaryCtxState(int32_t id, uint32_t *flags, int32_t *state) {
    if (id < 0 || id >= devices)
        return absent(id);
    if (flags)
        *flags = 0;
    *state = atomic_load(&active[id]);
    return OK;
}

aclError aclrtGetLogicDevIdByUserDevId(const int32_t user, int32_t *const logical) {
    *logical = user;
    return OK;
}

aclError aclrtDeviceCanAccessPeer(int32_t *can, int32_t id, int32_t peer) {
    *can = id != peer;
    return OK;
}

aclError aclrtDeviceGetBareTgid(int32_t *pid) {
    *pid = (int32_t)getpid();
    return OK;
}

aclError aclrtDeviceGetUuid(int32_t id, aclrtUuid *uuid) {
    memset(uuid, 0, sizeof *uuid);
    snprintf(uuid->bytes, sizeof uuid->bytes, "soft-npu-%d", id);
    return OK;
}

aclError aclrtGetDeviceUtilizationRate(int32_t id, aclrtUtilizationInfo *rates) {
    (void)id;
    rates->cubeUtilization = rates->vectorUtilization = 0;
    rates->aicpuUtilization = rates->memoryUtilization = 0;
    return OK;
}

/* What somebody would divide work by: the numbers of the platform file of a 910B. */
aclError aclGetDeviceCapability(uint32_t id, int what, int64_t *value) {
    (void)id;
    switch (what) {
    case 0: *value = AI_CORES; return OK;     /* ACL_DEVICE_INFO_AI_CORE_NUM */
    case 1: *value = VECTOR_CORES; return OK; /* ACL_DEVICE_INFO_VECTOR_CORE_NUM */
    case 2: *value = L2_CACHE; return OK;     /* ACL_DEVICE_INFO_L2_SIZE */
    }
    return fail(BAD_ARGUMENT, "the soft NPU does not know device information %d", what);
}

aclError aclrtGetDeviceInfo(uint32_t id, unsigned what, int64_t *value) {
    (void)id;
    switch (what) {                           /* aclrtDevAttr */
    case 1: *value = 6; return OK;            /* AI CPUs */
    case 101: case 102: *value = AI_CORES; return OK; /* and cube cores, one in each */
    case 201: *value = VECTOR_CORES; return OK;
    case 301: *value = (int64_t)capacity; return OK;
    case 302: *value = L2_CACHE; return OK;
    case 402: *value = id; return OK;         /* the physical chip */
    case 501: *value = 0; return OK;          /* whether it is a part of one */
    case 601: *value = 2201; return OK;       /* the architecture's number */
    }
    return fail(NOT_SUPPORTED, "the soft NPU does not know device attribute %u", what);
}

/* Deterministic computation and the like: remembered, without any effect. */
enum { PARAMETERS = 16 };
static _Atomic int64_t parameters[PARAMETERS];

aclError aclrtSetSysParamOpt(unsigned option, int64_t value) {
    if (option >= PARAMETERS)
        return fail(BAD_ARGUMENT, "no system parameter %u", option);
    atomic_store(&parameters[option], value);
    return OK;
}

aclError aclrtCtxSetSysParamOpt(unsigned option, int64_t value) {
    return aclrtSetSysParamOpt(option, value);
}

aclError aclrtSetOpExecuteTimeOutV2(uint64_t timeout, uint64_t *actual) {
    *actual = timeout;                        /* nothing ever takes that long */
    return OK;
}

aclError aclrtGetSysParamOpt(unsigned option, int64_t *value) {
    *value = option < PARAMETERS ? atomic_load(&parameters[option]) : 0;
    return OK;
}

/* How many cores kernels may use, which there are none of: 0 cube, 1 vector. */
static atomic_uint limits[MAX_DEVICES][2];

aclError aclrtSetDeviceResLimit(int32_t id, unsigned type, uint32_t value) {
    if (id < 0 || id >= devices)
        return absent(id);
    if (type > 1 || !value || value > (type ? VECTOR_CORES : AI_CORES))
        return fail(BAD_ARGUMENT, "soft NPU %d has no %u cores of type %u", id, value, type);
    atomic_store(&limits[id][type], value);
    return OK;
}

aclError aclrtGetDeviceResLimit(int32_t id, unsigned type, uint32_t *value) {
    if (id < 0 || id >= devices)
        return absent(id);
    if (type > 1)
        return fail(BAD_ARGUMENT, "soft NPU %d has no cores of type %u", id, type);
    uint32_t limit = atomic_load(&limits[id][type]);
    *value = limit ? limit : type ? VECTOR_CORES : AI_CORES;
    return OK;
}

aclError aclrtResetDeviceResLimit(int32_t id) {
    if (id < 0 || id >= devices)
        return absent(id);
    atomic_store(&limits[id][0], 0);
    atomic_store(&limits[id][1], 0);
    return OK;
}

/* ---- memory ------------------------------------------------------------------------ */

/* Blocks come from the system itself, since malloc keeps what is freed: torch_npu asks for
 * few and large ones, and gives them back when a program empties the cache. Before every
 * block lies what freeing it has to know. */
enum { HEAD = 512 };
struct head { size_t size; int device; };

static aclError reserve(size_t size) {
    int id = here();
    if (size > capacity || atomic_fetch_add(&used[id], size) > capacity - size) {
        if (size <= capacity)
            atomic_fetch_sub(&used[id], size);
        return fail(NO_MEMORY, "soft NPU %d has %zu bytes (MX_AUTOPATCH_SOFT_MEMORY), not %zu "
                    "more", id, capacity, size);
    }
    return OK;
}

static aclError none_left(size_t size) {
    atomic_fetch_sub(&used[here()], size);
    return fail(NO_MEMORY, "the host has no %zu bytes for soft NPU %d", size, here());
}

aclError aclrtMalloc(void **pointer, size_t size, unsigned policy) {
    (void)policy;
    aclError error = reserve(size);
    if (error)
        return error;
    char *block = mmap(NULL, HEAD + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);
    if (block == MAP_FAILED)
        return none_left(size);
    *(struct head *)block = (struct head){size, here()};
    *pointer = block + HEAD;
    return OK;
}

aclError aclrtMallocAlign32(void **pointer, size_t size, unsigned policy) {
    return aclrtMalloc(pointer, size, policy);
}

aclError aclrtFree(void *pointer) {
    if (pointer) {
        struct head *head = (struct head *)((char *)pointer - HEAD);
        atomic_fetch_sub(&used[head->device], head->size);
        if (munmap(head, HEAD + head->size))
            return fail(BAD_ARGUMENT, "%p cannot be freed", pointer);
    }
    return OK;
}

aclError aclrtMallocHost(void **pointer, size_t size) {
    if (posix_memalign(pointer, 512, size ? size : 1))
        return fail(NO_MEMORY, "the host has no %zu bytes", size);
    return OK;
}

aclError aclrtMallocHostWithCfg(void **pointer, uint64_t size, aclrtMallocConfig *config) {
    (void)config;
    return aclrtMallocHost(pointer, size);
}

aclError aclrtFreeHost(void *pointer) {
    free(pointer);
    return OK;
}

aclError aclrtHostRegister(void *pointer, uint64_t size, unsigned type, void **device_pointer) {
    (void)size, (void)type;
    *device_pointer = pointer;
    return OK;
}

aclError aclrtGetMemInfo(unsigned kind, size_t *available, size_t *total) {
    (void)kind;
    size_t taken = atomic_load(&used[here()]);
    *total = capacity;
    *available = taken < capacity ? capacity - taken : 0;
    return OK;
}

aclError aclrtGetMemUsageInfo(int32_t id, aclrtMemUsageInfo *usage, size_t room, size_t *count) {
    (void)id, (void)usage, (void)room;
    *count = 0;                               /* of other components: there are none */
    return OK;
}

static aclError copied(void *to, size_t room, const void *from, size_t count) {
    if (count > room)
        return fail(BAD_ARGUMENT, "a copy of %zu bytes into %zu", count, room);
    memmove(to, from, count);
    return OK;
}

aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t count, unsigned kind) {
    (void)kind;
    return copied(to, room, from, count);
}

aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t count, unsigned kind,
                          aclrtStream stream) {
    (void)kind, (void)stream;
    return copied(to, room, from, count);
}

aclError aclrtMemcpyAsyncWithCondition(void *to, size_t room, const void *from, size_t count,
                                       unsigned kind, aclrtStream stream) {
    (void)kind, (void)stream;
    return copied(to, room, from, count);
}

aclError aclrtMemset(void *pointer, size_t room, int32_t value, size_t count) {
    if (count > room)
        return fail(BAD_ARGUMENT, "%zu bytes to set, of %zu", count, room);
    memset(pointer, value, count);
    return OK;
}

aclError aclrtMemsetAsync(void *pointer, size_t room, int32_t value, size_t count,
                          aclrtStream stream) {
    (void)stream;
    return aclrtMemset(pointer, room, value, count);
}

/* Virtual memory, for expandable segments: addresses first, memory behind them later. What
 * the memory held is lost when it moves to another address; torch_npu does not rely on it. */
enum { PAGE = 1 << 16 };                      /* a multiple of every page size in use */

struct physical {
    size_t size;
    int device;
    void *mapped;                             /* where to, or NULL */
    struct physical *next;                    /* of those that are mapped */
};
static struct physical *mapped;
static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

aclError aclrtReserveMemAddress(void **address, size_t size, size_t alignment, void *wanted,
                                uint64_t flags) {
    (void)alignment, (void)wanted, (void)flags;
    char *found = mmap(NULL, PAGE + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
    if (found == MAP_FAILED)
        return fail(NO_MEMORY, "the host has no %zu bytes of addresses", size);
    if (mprotect(found, PAGE, PROT_READ | PROT_WRITE)) {
        munmap(found, PAGE + size);
        return fail(NO_MEMORY, "the host has no %d bytes", PAGE);
    }
    *(struct head *)found = (struct head){size, here()};
    *address = found + PAGE;
    return OK;
}

aclError aclrtReleaseMemAddress(void *address) {
    struct head *head = (struct head *)((char *)address - PAGE);
    return munmap(head, PAGE + head->size) ? BAD_ARGUMENT : OK;
}

aclError aclrtMallocPhysical(aclrtDrvMemHandle *handle, size_t size,
                             const aclrtPhysicalMemProp *properties, uint64_t flags) {
    (void)properties, (void)flags;
    aclError error = reserve(size);
    if (error)
        return error;
    struct physical *memory = malloc(sizeof *memory);
    if (!memory)
        return none_left(size);
    *memory = (struct physical){size, here(), NULL, NULL};
    *handle = memory;
    return OK;
}

aclError aclrtFreePhysical(aclrtDrvMemHandle handle) {
    struct physical *memory = handle;
    if (memory->mapped)
        return fail(BAD_ARGUMENT, "memory that is mapped to %p cannot be freed", memory->mapped);
    atomic_fetch_sub(&used[memory->device], memory->size);
    free(memory);
    return OK;
}

aclError aclrtMapMem(void *address, size_t size, size_t offset, aclrtDrvMemHandle handle,
                     uint64_t flags) {
    struct physical *memory = handle;
    (void)flags;
    if (offset || size != memory->size || memory->mapped)
        return fail(BAD_ARGUMENT, "%zu bytes at %zu cannot be mapped, of %zu%s", size, offset,
                    memory->size, memory->mapped ? " that are mapped" : "");
    if (mprotect(address, size, PROT_READ | PROT_WRITE))
        return fail(NO_MEMORY, "the host has no %zu bytes to map", size);
    pthread_mutex_lock(&mapping);
    memory->mapped = address;
    memory->next = mapped;
    mapped = memory;
    pthread_mutex_unlock(&mapping);
    return OK;
}

aclError aclrtUnmapMem(void *address) {
    pthread_mutex_lock(&mapping);
    struct physical **place = &mapped;
    while (*place && (*place)->mapped != address)
        place = &(*place)->next;
    struct physical *memory = *place;
    if (memory) {
        *place = memory->next;
        memory->mapped = NULL;
    }
    pthread_mutex_unlock(&mapping);
    if (!memory)
        return fail(BAD_ARGUMENT, "nothing is mapped to %p", address);
    /* New addresses in the place of these give the memory back to the host. */
    void *again = mmap(address, memory->size, PROT_NONE,
                       MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return again == address ? OK : fail(BAD_ARGUMENT, "%p cannot be unmapped", address);
}

/* ---- streams and events ------------------------------------------------------------ */

struct stream { int id; };
struct event { uint64_t nanoseconds; };       /* when it was recorded; 0 before */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

aclError aclrtCreateStream(aclrtStream *stream) {
    static atomic_int last;
    struct stream *made = malloc(sizeof *made);
    if (!made)
        return fail(NO_MEMORY, "the host has no memory for a stream");
    made->id = atomic_fetch_add(&last, 1);
    *stream = made;
    return OK;
}

aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flag) {
    (void)priority, (void)flag;
    return aclrtCreateStream(stream);
}

aclError aclrtDestroyStream(aclrtStream stream) {
    free(stream);
    return OK;
}

aclError aclrtDestroyStreamForce(aclrtStream stream) { return aclrtDestroyStream(stream); }

aclError aclrtStreamGetId(aclrtStream stream, int32_t *id) {
    *id = stream ? ((struct stream *)stream)->id : 0;
    return OK;
}

aclError aclrtStreamQuery(aclrtStream stream, unsigned *status) {
    (void)stream;
    *status = 0;                              /* ACL_STREAM_STATUS_COMPLETE */
    return OK;
}

aclError aclrtGetStreamResLimit(aclrtStream stream, unsigned type, uint32_t *value) {
    (void)stream;
    return aclrtGetDeviceResLimit(here(), type, value);
}

aclError aclrtGetResInCurrentThread(unsigned type, uint32_t *value) {
    return aclrtGetDeviceResLimit(here(), type, value);
}

aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t flag) {
    (void)flag;
    *event = calloc(1, sizeof(struct event));
    return *event ? OK : fail(NO_MEMORY, "the host has no memory for an event");
}

aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag) {
    return aclrtCreateEventExWithFlag(event, flag);
}

aclError aclrtDestroyEvent(aclrtEvent event) {
    free(event);
    return OK;
}

aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
    (void)stream;
    ((struct event *)event)->nanoseconds = now();
    return OK;
}

aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) {
    (void)stream;
    ((struct event *)event)->nanoseconds = 0;
    return OK;
}

aclError aclrtQueryEventStatus(aclrtEvent event, unsigned *status) {
    (void)event;
    *status = 1;                              /* ACL_EVENT_RECORDED_STATUS_COMPLETE */
    return OK;
}

aclError aclrtQueryEventWaitStatus(aclrtEvent event, unsigned *status) {
    (void)event;
    *status = 0;                              /* ACL_EVENT_WAIT_STATUS_COMPLETE */
    return OK;
}

aclError aclrtEventElapsedTime(float *milliseconds, aclrtEvent start, aclrtEvent end) {
    uint64_t from = ((struct event *)start)->nanoseconds, to = ((struct event *)end)->nanoseconds;
    if (!from || !to)
        return fail(BAD_ARGUMENT, "the time between events of which one was not recorded");
    double apart = to >= from ? (double)(to - from) : -(double)(from - to);
    *milliseconds = (float)(apart / 1e6);
    return OK;
}

aclError aclrtEventGetTimestamp(aclrtEvent event, uint64_t *timestamp) {
    *timestamp = ((struct event *)event)->nanoseconds / 1000;
    return OK;
}

/* Everything before it on the stream is done. */
aclError aclrtLaunchCallback(aclrtCallback function, void *data, unsigned block,
                             aclrtStream stream) {
    (void)block, (void)stream;
    function(data);
    return OK;
}

aclError aclrtLaunchHostFunc(aclrtStream stream, aclrtHostFunc function, void *data) {
    (void)stream;
    function(data);
    return OK;
}

/* There is never anything to report; whoever waits in a loop shall not spin. */
aclError aclrtProcessReport(int32_t milliseconds) {
    usleep(1000u * (useconds_t)(milliseconds > 0 && milliseconds < 100 ? milliseconds : 100));
    return OK;
}

aclError aclmdlRICaptureGetInfo(aclrtStream stream, unsigned *status, aclmdlRI *model) {
    (void)stream;
    *status = 0;                              /* ACL_MODEL_RI_CAPTURE_STATUS_NONE */
    *model = NULL;
    return OK;
}

aclError aclrtGetStreamOverflowSwitch(aclrtStream stream, uint32_t *flag) {
    (void)stream;
    *flag = 0;
    return OK;
}

/* ---- versions ---------------------------------------------------------------------- */

#define VERSION "9.2.0"                       /* torch_npu 2.13 has all its functions */

aclError aclsysGetCANNVersion(unsigned package, aclCANNPackageVersion *version) {
    (void)package;
    memset(version, 0, sizeof *version);
    strcpy(version->version, VERSION);
    version->majorVersion[0] = VERSION[0];
    version->minorVersion[0] = VERSION[2];
    version->releaseVersion[0] = VERSION[4];
    version->patchVersion[0] = '0';
    return OK;
}

aclError aclsysGetVersionStr(char *package, char *version) {
    (void)package;
    strcpy(version, VERSION);
    return OK;
}

/* ---- kernels ----------------------------------------------------------------------- */

/* Descriptions of tensors are made, and read again, before the kernel is refused. */
enum { DIMENSIONS = 64 };                     /* more than torch allows */
struct aclTensorDesc { int type, format; size_t count; int64_t sizes[DIMENSIONS]; };

aclError aclSetTensorShape(aclTensorDesc *tensor, int count, const int64_t *sizes) {
    if (count < 0 || count > DIMENSIONS)
        return fail(BAD_ARGUMENT, "a tensor of %d dimensions", count);
    tensor->count = (size_t)count;
    for (int i = 0; i < count; i++)
        tensor->sizes[i] = sizes[i];
    return OK;
}

aclTensorDesc *aclCreateTensorDesc(int type, int count, const int64_t *sizes, int format) {
    aclTensorDesc *tensor = calloc(1, sizeof *tensor);
    if (!tensor)
        return NULL;
    tensor->type = type;
    tensor->format = format;
    if (aclSetTensorShape(tensor, count, sizes)) {
        free(tensor);
        return NULL;
    }
    return tensor;
}

void aclDestroyTensorDesc(const aclTensorDesc *tensor) { free((void *)tensor); }

aclError aclSetTensorFormat(aclTensorDesc *tensor, int format) {
    tensor->format = format;
    return OK;
}

int aclGetTensorDescType(const aclTensorDesc *tensor) { return tensor->type; }

int aclGetTensorDescFormat(const aclTensorDesc *tensor) { return tensor->format; }

size_t aclGetTensorDescNumDims(const aclTensorDesc *tensor) { return tensor->count; }

aclError aclGetTensorDescDimV2(const aclTensorDesc *tensor, size_t index, int64_t *size) {
    if (index >= tensor->count)
        return fail(BAD_ARGUMENT, "dimension %zu of %zu", index, tensor->count);
    *size = tensor->sizes[index];
    return OK;
}

/* Nothing reads what is in these. */
static char nothing;

aclDataBuffer *aclCreateDataBuffer(void *data, size_t size) {
    (void)data, (void)size;
    return (aclDataBuffer *)&nothing;
}

aclopAttr *aclopCreateAttr(void) { return (aclopAttr *)&nothing; }

aclError aclopCompileAndExecute(const char *name, int inputs,
                                const aclTensorDesc *const input_descriptions[],
                                const aclDataBuffer *const input_buffers[], int outputs,
                                const aclTensorDesc *const output_descriptions[],
                                aclDataBuffer *const output_buffers[], const aclopAttr *attributes,
                                unsigned engine, unsigned compile, const char *path,
                                aclrtStream stream) {
    (void)inputs, (void)input_descriptions, (void)input_buffers, (void)outputs;
    (void)output_descriptions, (void)output_buffers, (void)attributes, (void)engine;
    (void)compile, (void)path, (void)stream;
    return fail(NOT_SUPPORTED, "the soft NPU has no kernel %s", name);
}

aclError aclopCompileAndExecuteV2(const char *name, int inputs,
                                  aclTensorDesc *input_descriptions[],
                                  aclDataBuffer *input_buffers[], int outputs,
                                  aclTensorDesc *output_descriptions[],
                                  aclDataBuffer *output_buffers[], aclopAttr *attributes,
                                  unsigned engine, unsigned compile, const char *path,
                                  aclrtStream stream) {
    (void)inputs, (void)input_descriptions, (void)input_buffers, (void)outputs;
    (void)output_descriptions, (void)output_buffers, (void)attributes, (void)engine;
    (void)compile, (void)path, (void)stream;
    return fail(NOT_SUPPORTED, "the soft NPU has no kernel %s", name);
}

size_t aclGetCompileoptSize(unsigned option) {
    (void)option;
    return 1;
}

aclError aclGetCompileopt(unsigned option, char *value, size_t room) {
    (void)option;
    if (room)
        *value = '\0';
    return OK;
}

/* ---- profiling --------------------------------------------------------------------- */

/* What is reported to the profiler is dropped (names.py): it records the CPU's side of a
 * program, and of the device nothing. Its clock runs all the same. */
aclprofConfig *aclprofCreateConfig(uint32_t *ids, uint32_t count, unsigned metrics,
                                   const aclprofAicoreEvents *events, uint64_t kinds) {
    (void)ids, (void)count, (void)metrics, (void)events, (void)kinds;
    return (aclprofConfig *)&nothing;
}

/* Of the driver: 0, with which torch_npu does not ask for the device's own clock. */
int32_t halGetAPIVersion(int32_t *version) {
    *version = 0;
    return OK;
}

uint64_t MsprofSysCycleTime(void) { return now(); }

uint64_t MsprofGetHashId(const char *text, size_t length) {
    uint64_t hash = 14695981039346656037u;    /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return hash;
}
