/* The soft NPU's stand-in for the CANN runtime: device memory is host memory, and
 * everything that a stream would do later is done at once.
 *
 * torch_npu links some of these functions and looks the others up by name. Here are
 * those that have something to do; `names.py` lists the ones that merely succeed and the
 * ones that refuse, and `build.py` adds them below. Prototypes: acl/acl_rt.h and
 * acl/acl_op.h, as the torch_npu wheel ships them (a test compiles this file against
 * them); enums are passed as int.
 *
 * Kernels are not here. What torch_npu would hand to one is refused, with the operator's
 * name: the Python side replaces every operator before it comes this far.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifndef MX_ACL_TYPES /* not compiled against torch_npu's headers */
typedef int aclError;
typedef void *aclrtStream, *aclrtEvent, *aclrtContext, *aclrtDrvMemHandle;
#endif

enum { OK = 0, BAD_ARGUMENT = 107000, NOT_SUPPORTED = 207000, NO_MEMORY = 207001 };
enum { MAX_DEVICES = 64 };

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

const char *aclGetRecentErrMsg(void) { return message; }

/* ---- devices ----------------------------------------------------------------------- */

static _Thread_local int device = 0;
static size_t capacity;                       /* bytes of memory of each device */
static atomic_size_t used[MAX_DEVICES];
static int contexts[MAX_DEVICES];             /* their addresses are the contexts */

static int device_count(void) {
    const char *text = getenv("MX_AUTOPATCH_SOFT_DEVICES");
    int count = text && *text ? atoi(text) : 1;
    return count < 0 ? 0 : count > MAX_DEVICES ? MAX_DEVICES : count;
}

aclError aclInit(const char *config) {
    (void)config;
    if (!capacity)
        capacity = (size_t)64 << 30;          /* an Ascend 910B1's */
    return OK;
}

const char *aclrtGetSocName(void) { return "Ascend910B1"; }

aclError aclrtGetDeviceCount(uint32_t *count) {
    *count = (uint32_t)device_count();
    return OK;
}

aclError aclrtSetDevice(int32_t id) {
    if (id < 0 || id >= device_count())
        return fail(BAD_ARGUMENT, "no soft NPU %d: there are %d (MX_AUTOPATCH_SOFT_DEVICES)",
                    id, device_count());
    device = id;
    return OK;
}

aclError aclrtGetDevice(int32_t *id) {
    *id = device;
    return OK;
}

aclError aclrtGetCurrentContext(aclrtContext *context) {
    *context = &contexts[device];
    return OK;
}

aclError aclrtSetCurrentContext(aclrtContext context) {
    device = (int)((int *)context - contexts);
    return OK;
}

/* Deterministic computation and the like: remembered, without any effect. */
static int64_t parameters[16];

aclError aclrtSetSysParamOpt(int option, int64_t value) {
    if (option < 0 || option >= 16)
        return fail(BAD_ARGUMENT, "no system parameter %d", option);
    parameters[option] = value;
    return OK;
}

aclError aclrtCtxSetSysParamOpt(int option, int64_t value) {
    return aclrtSetSysParamOpt(option, value);
}

aclError aclrtGetSysParamOpt(int option, int64_t *value) {
    *value = option >= 0 && option < 16 ? parameters[option] : 0;
    return OK;
}

aclError aclrtGetPrimaryCtxState(int32_t id, uint32_t *flags, int32_t *active) {
    (void)id;
    if (flags)
        *flags = 0;
    *active = 1;
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

aclError aclrtDeviceGetUuid(int32_t id, void *uuid) {
    memset(uuid, 0, 16);
    snprintf(uuid, 16, "soft-npu-%d", id);
    return OK;
}

aclError aclrtGetDeviceUtilizationRate(int32_t id, void *rates) {
    (void)id;
    memset(rates, 0, 4 * sizeof(int32_t));    /* cube, vector, AI CPU, memory */
    return OK;
}

/* Numbers of cores of a 910B1, for those who divide their work by them. */
aclError aclGetDeviceCapability(uint32_t id, int what, int64_t *value) {
    (void)id;
    *value = what == 1 ? 25 : what == 2 ? 50 : 0; /* AI cores, vector cores */
    return OK;
}

aclError aclrtGetDeviceInfo(uint32_t id, int what, int64_t *value) {
    (void)what;
    return aclGetDeviceCapability(id, 1, value);
}

/* ---- memory ------------------------------------------------------------------------ */

/* Before every block lies what freeing it has to know. */
enum { HEAD = 512 };
struct head { size_t size; int device; };

static aclError reserve(size_t size) {
    if (capacity && atomic_fetch_add(&used[device], size) + size > capacity) {
        atomic_fetch_sub(&used[device], size);
        return fail(NO_MEMORY, "soft NPU %d is full: it has %zu bytes", device, capacity);
    }
    return OK;
}

aclError aclrtMalloc(void **pointer, size_t size, int policy) {
    (void)policy;
    aclError error = reserve(size);
    if (error)
        return error;
    char *block;
    if (posix_memalign((void **)&block, HEAD, HEAD + size)) {
        atomic_fetch_sub(&used[device], size);
        return fail(NO_MEMORY, "the host has no %zu bytes for soft NPU %d", size, device);
    }
    *(struct head *)block = (struct head){size, device};
    *pointer = block + HEAD;
    return OK;
}

aclError aclrtMallocAlign32(void **pointer, size_t size, int policy) {
    return aclrtMalloc(pointer, size, policy);
}

aclError aclrtFree(void *pointer) {
    if (pointer) {
        struct head *head = (struct head *)((char *)pointer - HEAD);
        atomic_fetch_sub(&used[head->device], head->size);
        free(head);
    }
    return OK;
}

aclError aclrtMallocHost(void **pointer, size_t size) {
    return posix_memalign(pointer, 512, size ? size : 512) ? NO_MEMORY : OK;
}

aclError aclrtMallocHostWithCfg(void **pointer, uint64_t size, void *config) {
    (void)config;
    return aclrtMallocHost(pointer, size);
}

aclError aclrtFreeHost(void *pointer) {
    free(pointer);
    return OK;
}

aclError aclrtHostRegister(void *pointer, uint64_t size, int type, void **device_pointer) {
    (void)size, (void)type;
    *device_pointer = pointer;
    return OK;
}

aclError aclrtGetMemInfo(int kind, size_t *available, size_t *total) {
    (void)kind;
    *total = capacity ? capacity : (size_t)64 << 30;
    *available = *total - atomic_load(&used[device]);
    return OK;
}

aclError aclrtGetMemUsageInfo(int32_t id, void *usage, size_t room, size_t *count) {
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

aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t count, int kind) {
    (void)kind;
    return copied(to, room, from, count);
}

aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t count, int kind,
                          aclrtStream stream) {
    (void)kind, (void)stream;
    return copied(to, room, from, count);
}

aclError aclrtMemcpyAsyncWithCondition(void *to, size_t room, const void *from, size_t count,
                                       int kind, aclrtStream stream) {
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

/* Virtual memory, for expandable segments: addresses first, memory behind them later. */
enum { PAGE = 1 << 16 };                      /* a multiple of every page size in use */

aclError aclrtReserveMemAddress(void **address, size_t size, size_t alignment, void *wanted,
                                uint64_t flags) {
    (void)alignment, (void)wanted, (void)flags;
    char *found = mmap(NULL, PAGE + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
    if (found == MAP_FAILED || mprotect(found, PAGE, PROT_READ | PROT_WRITE))
        return fail(NO_MEMORY, "the host has no %zu bytes of addresses", size);
    *(struct head *)found = (struct head){size, device};
    *address = found + PAGE;
    return OK;
}

aclError aclrtReleaseMemAddress(void *address) {
    struct head *head = (struct head *)((char *)address - PAGE);
    return munmap(head, PAGE + head->size) ? BAD_ARGUMENT : OK;
}

aclError aclrtMallocPhysical(aclrtDrvMemHandle *handle, size_t size, const void *properties,
                             uint64_t flags) {
    (void)properties, (void)flags;
    aclError error = reserve(size);
    if (error)
        return error;
    struct head *memory = malloc(sizeof *memory);
    *memory = (struct head){size, device};
    *handle = memory;
    return OK;
}

aclError aclrtFreePhysical(aclrtDrvMemHandle handle) {
    struct head *memory = handle;
    atomic_fetch_sub(&used[memory->device], memory->size);
    free(memory);
    return OK;
}

aclError aclrtMapMem(void *address, size_t size, size_t offset, aclrtDrvMemHandle handle,
                     uint64_t flags) {
    (void)offset, (void)handle, (void)flags;
    return mprotect(address, size, PROT_READ | PROT_WRITE) ? BAD_ARGUMENT : OK;
}

/* Only the address is given, not how much of it was mapped; it is dropped on release. */
aclError aclrtUnmapMem(void *address) {
    (void)address;
    return OK;
}

/* ---- streams and events ------------------------------------------------------------ */

struct stream { int id; };
struct event { uint64_t nanoseconds; };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

aclError aclrtCreateStream(aclrtStream *stream) {
    static atomic_int last;
    struct stream *made = malloc(sizeof *made);
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

aclError aclrtStreamQuery(aclrtStream stream, void *status) {
    (void)stream;
    *(int *)status = 0;                       /* ACL_STREAM_STATUS_COMPLETE */
    return OK;
}

aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t flag) {
    (void)flag;
    *event = calloc(1, sizeof(struct event));
    return OK;
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

aclError aclrtQueryEventStatus(aclrtEvent event, void *status) {
    (void)event;
    *(int *)status = 1;                       /* ACL_EVENT_RECORDED_STATUS_COMPLETE */
    return OK;
}

aclError aclrtQueryEventWaitStatus(aclrtEvent event, void *status) {
    (void)event;
    *(int *)status = 0;                       /* ACL_EVENT_WAIT_STATUS_COMPLETE */
    return OK;
}

aclError aclrtEventElapsedTime(float *milliseconds, aclrtEvent start, aclrtEvent end) {
    uint64_t from = ((struct event *)start)->nanoseconds, to = ((struct event *)end)->nanoseconds;
    *milliseconds = to > from ? (float)(to - from) / 1e6f : 1e-6f;
    return OK;
}

aclError aclrtEventGetTimestamp(aclrtEvent event, uint64_t *timestamp) {
    *timestamp = ((struct event *)event)->nanoseconds / 1000;
    return OK;
}

/* Everything before it on the stream is done. */
aclError aclrtLaunchCallback(void (*function)(void *), void *data, int block, aclrtStream stream) {
    (void)block, (void)stream;
    function(data);
    return OK;
}

aclError aclrtLaunchHostFunc(aclrtStream stream, void (*function)(void *), void *data) {
    (void)stream;
    function(data);
    return OK;
}

aclError aclrtProcessReport(int32_t milliseconds) {
    usleep(1000u * (useconds_t)(milliseconds > 0 && milliseconds < 100 ? milliseconds : 100));
    return OK;
}

aclError aclmdlRICaptureGetInfo(aclrtStream stream, void *status, void **model) {
    (void)stream;
    *(int *)status = 0;                       /* no graph is being captured */
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

aclError aclsysGetCANNVersion(int package, void *version) {
    (void)package;
    char *parts = version;                    /* char version[128], then four of char[64] */
    static const char *const numbers[] = {"9", "2", "0", "0"};
    memset(parts, 0, 128 + 4 * 64 + 128);
    strcpy(parts, VERSION);
    for (int i = 0; i < 4; i++)
        strcpy(parts + 128 + 64 * i, numbers[i]);
    return OK;
}

aclError aclsysGetVersionStr(char *package, char *version) {
    (void)package;
    strcpy(version, VERSION);
    return OK;
}

/* ---- kernels ----------------------------------------------------------------------- */

aclError aclopCompileAndExecute(const char *name, int inputs, const void *const input_descriptions[],
                                const void *const input_buffers[], int outputs,
                                const void *const output_descriptions[],
                                void *const output_buffers[], const void *attributes, int engine,
                                int compile, const char *path, aclrtStream stream) {
    (void)inputs, (void)input_descriptions, (void)input_buffers, (void)outputs;
    (void)output_descriptions, (void)output_buffers, (void)attributes, (void)engine;
    (void)compile, (void)path, (void)stream;
    return fail(NOT_SUPPORTED, "the soft NPU has no kernel %s", name);
}

aclError aclopCompileAndExecuteV2(const char *name, int inputs, void *input_descriptions[],
                                  void *input_buffers[], int outputs, void *output_descriptions[],
                                  void *output_buffers[], void *attributes, int engine, int compile,
                                  const char *path, aclrtStream stream) {
    (void)inputs, (void)input_descriptions, (void)input_buffers, (void)outputs;
    (void)output_descriptions, (void)output_buffers, (void)attributes, (void)engine;
    (void)compile, (void)path, (void)stream;
    return fail(NOT_SUPPORTED, "the soft NPU has no kernel %s", name);
}

/* Descriptions of tensors and attributes are made before a kernel is refused. */
static char description;

void *aclCreateTensorDesc(int type, int count, const int64_t *sizes, int format) {
    (void)type, (void)count, (void)sizes, (void)format;
    return &description;
}

void *aclCreateDataBuffer(void *data, size_t size) {
    (void)data, (void)size;
    return &description;
}

void *aclopCreateAttr(void) { return &description; }

size_t aclGetCompileoptSize(int option) {
    (void)option;
    return 1;
}

aclError aclGetCompileopt(int option, char *value, size_t room) {
    (void)option;
    if (room)
        *value = '\0';
    return OK;
}
