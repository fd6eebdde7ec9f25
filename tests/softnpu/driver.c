/* Uses the stand-in as torch_npu does, for the sanitizers to watch: cann.c comes before. */
#include <assert.h>

static void *use(void *argument) {
    int32_t id;
    assert(aclrtGetDevice(&id) == NO_CONTEXT);
    assert(aclrtSetDevice(1) == OK && aclrtGetDevice(&id) == OK && id == 1);
    for (int i = 1; i < 200; i++) {
        void *block;
        assert(aclrtMalloc(&block, (size_t)i * 1000, 0) == OK);
        assert(aclrtMemset(block, (size_t)i * 1000, i, (size_t)i * 1000) == OK);
        assert(aclrtFree(block) == OK);
    }
    return argument;
}

static void memory(void) {
    size_t available, total, again;
    void *block, *host, *mapped;
    assert(aclrtGetMemInfo(1, &available, &total) == OK && available == total);
    assert(total == (size_t)64 << 20);
    assert(aclrtMalloc(&block, 1000, 0) == OK && (uintptr_t)block % 512 == 0);
    assert(aclrtGetMemInfo(1, &again, &total) == OK && again == available - 1000);
    assert(aclrtMallocHost(&host, 0) == OK && aclrtFreeHost(host) == OK);
    assert(aclrtMallocHost(&host, 100) == OK);
    assert(aclrtHostRegister(host, 100, 0, &mapped) == OK && mapped == host);
    memset(host, 7, 100);
    assert(aclrtMemcpy(block, 1000, host, 100, 1) == OK && ((char *)block)[99] == 7);
    assert(aclrtMemcpyAsync(block, 99, host, 100, 1, NULL) == BAD_ARGUMENT);
    assert(strstr(aclGetRecentErrMsg(), "100 bytes into 99"));
    assert(!*aclGetRecentErrMsg());
    assert(aclrtFreeHost(host) == OK && aclrtFree(block) == OK && aclrtFree(NULL) == OK);
    assert(aclrtMalloc(&block, SIZE_MAX, 0) == NO_MEMORY);
    assert(aclrtMalloc(&block, total + 1, 0) == NO_MEMORY);
    assert(aclrtMalloc(&block, total, 0) == OK);
    assert(aclrtMalloc(&host, 1, 0) == NO_MEMORY);
    assert(aclrtFree(block) == OK);
    assert(aclrtGetMemInfo(1, &again, &total) == OK && again == total);
}

static void virtual_memory(void) {
    enum { SIZE = 2 << 20 };
    void *base;
    aclrtDrvMemHandle handles[3];
    assert(aclrtReserveMemAddress(&base, (size_t)1 << 36, 0, NULL, 1) == OK);
    for (int i = 0; i < 3; i++) {
        assert(aclrtMallocPhysical(&handles[i], SIZE, NULL, 0) == OK);
        assert(aclrtMapMem((char *)base + i * SIZE, SIZE, 0, handles[i], 0) == OK);
    }
    memset(base, 1, 3 * SIZE);
    assert(aclrtFreePhysical(handles[1]) == BAD_ARGUMENT);
    assert(aclrtUnmapMem((char *)base + SIZE) == OK);
    assert(aclrtUnmapMem((char *)base + SIZE) == BAD_ARGUMENT);
    assert(((char *)base)[SIZE - 1] == 1 && ((char *)base)[2 * SIZE] == 1);
    assert(aclrtMapMem((char *)base + SIZE, SIZE, 0, handles[1], 0) == OK);
    assert(((char *)base)[SIZE] == 0); /* other memory: the former went back to the host */
    assert(aclrtMapMem((char *)base + SIZE, SIZE, 0, handles[1], 0) == BAD_ARGUMENT);
    for (int i = 0; i < 3; i++)
        assert(aclrtUnmapMem((char *)base + i * SIZE) == OK && !aclrtFreePhysical(handles[i]));
    assert(aclrtReleaseMemAddress(base) == OK);
}

static void streams(void) {
    aclrtStream stream;
    aclrtEvent start, end;
    float milliseconds;
    unsigned status;
    assert(aclrtCreateStreamWithConfig(&stream, 0, 0) == OK);
    assert(aclrtStreamQuery(stream, &status) == OK && status == 0);
    assert(aclrtCreateEventExWithFlag(&start, 8) == OK && aclrtCreateEventWithFlag(&end, 8) == OK);
    assert(aclrtRecordEvent(start, stream) == OK);
    assert(aclrtEventElapsedTime(&milliseconds, start, end) == BAD_ARGUMENT);
    usleep(2000);
    assert(aclrtRecordEvent(end, stream) == OK);
    assert(aclrtEventElapsedTime(&milliseconds, start, end) == OK && milliseconds >= 2);
    assert(aclrtEventElapsedTime(&milliseconds, end, start) == OK && milliseconds <= -2);
    assert(!aclrtDestroyEvent(start) && !aclrtDestroyEvent(end) && !aclrtDestroyStream(stream));
}

static void kernels(void) {
    const int64_t sizes[] = {2, 3};
    int64_t size;
    aclTensorDesc *tensor = aclCreateTensorDesc(0, 2, sizes, 2);
    assert(aclGetTensorDescNumDims(tensor) == 2 && aclGetTensorDescFormat(tensor) == 2);
    assert(aclGetTensorDescDimV2(tensor, 1, &size) == OK && size == 3);
    assert(aclGetTensorDescDimV2(tensor, 2, &size) == BAD_ARGUMENT);
    aclDestroyTensorDesc(tensor);
    assert(!aclCreateTensorDesc(0, 65, sizes, 2));
    assert(aclopCompileAndExecute("Add", 0, NULL, NULL, 0, NULL, NULL, NULL, 0, 0, NULL, NULL));
    assert(strstr(aclGetRecentErrMsg(), "no kernel Add"));
}

int main(void) {
    uint32_t count;
    aclrtContext context;
    aclCANNPackageVersion version;
    int64_t value;
    assert(aclInit(NULL) == OK && aclrtGetDeviceCount(&count) == OK && count == 3);
    assert(aclrtGetCurrentContext(&context) == NO_CONTEXT);
    assert(aclrtSetDevice(3) == BAD_ARGUMENT && aclrtSetDevice(-1) == BAD_ARGUMENT);
    assert(aclrtSetDevice(2) == OK && aclrtGetCurrentContext(&context) == OK);
    assert(aclrtSetDevice(0) == OK && aclrtSetCurrentContext(context) == OK && here() == 2);
    assert(aclrtSetCurrentContext(NULL) == BAD_ARGUMENT);
    assert(aclsysGetCANNVersion(0, &version) == OK && !strcmp(version.version, VERSION));
    assert(aclGetDeviceCapability(0, 9, &value) == BAD_ARGUMENT);
    memory();
    virtual_memory();
    streams();
    kernels();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert(pthread_create(&threads[i], NULL, use, NULL) == 0);
    for (int i = 0; i < 4; i++)
        assert(pthread_join(threads[i], NULL) == 0);
    for (int id = 0; id < 3; id++)
        assert(atomic_load(&used[id]) == 0);
    return 0;
}
