// The floor of preflight: the calls that nvlaunch makes to NVML before a launch, and nothing else.
//
//     nvml LIBRARY

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *device_t;
typedef struct { char bytes[256]; } block_t;
typedef struct { unsigned field, scope; long long stamp, latency; unsigned type, code; unsigned long long value; } sample_t;

static void *library;

static void *call(const char *name) {
    void *symbol = dlsym(library, name);
    if (!symbol) {
        fprintf(stderr, "nvml: no %s: %s\n", name, dlerror());
        exit(1);
    }
    return symbol;
}

#define CALL(name, types, ...) ((int (*) types)call(name))(__VA_ARGS__)

int main(int count, char **words) {
    library = dlopen(count > 1 ? words[1] : "libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "nvml: %s\n", dlerror());
        return 1;
    }
    int result = CALL("nvmlInit_v2", (void));
    if (result) {
        fprintf(stderr, "nvml: init: %d\n", result);
        return 1;
    }
    char text[128];
    int number;
    unsigned devices = 0;
    CALL("nvmlSystemGetDriverVersion", (char *, unsigned), text, sizeof text);
    CALL("nvmlSystemGetNVMLVersion", (char *, unsigned), text, sizeof text);
    CALL("nvmlSystemGetCudaDriverVersion_v2", (int *), &number);
    CALL("nvmlDeviceGetCount_v2", (unsigned *), &devices);
    for (unsigned index = 0; index < devices; index++) {
        device_t device;
        if (CALL("nvmlDeviceGetHandleByIndex_v2", (unsigned, device_t *), index, &device)) {
            continue;
        }
        block_t block;
        unsigned one, other;
        unsigned long long errors;
        CALL("nvmlDeviceGetPciInfo_v3", (device_t, block_t *), device, &block);
        CALL("nvmlDeviceGetUUID", (device_t, char *, unsigned), device, text, sizeof text);
        CALL("nvmlDeviceGetName", (device_t, char *, unsigned), device, text, sizeof text);
        CALL("nvmlDeviceGetPersistenceMode", (device_t, unsigned *), device, &one);
        CALL("nvmlDeviceGetComputeMode", (device_t, unsigned *), device, &one);
        CALL("nvmlDeviceGetTotalEccErrors", (device_t, unsigned, unsigned, unsigned long long *),
             device, 1, 0, &errors);
        sample_t samples[5] = {{142}, {143}, {144}, {145}, {230}};
        CALL("nvmlDeviceGetFieldValues", (device_t, int, sample_t *), device, 5, samples);
        CALL("nvmlDeviceGetMigMode", (device_t, unsigned *, unsigned *), device, &one, &other);
    }
    CALL("nvmlShutdown", (void));
    printf("%u\n", devices);
    return 0;
}
