// A driver of NVIDIA for tests, whose GPU is the processor: kernels.cu as C++, one thread after another. Only what
// src/cuda/driver.rs calls.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#define __global__
#define __device__

struct Index {
    unsigned x;
};
static thread_local Index blockIdx, blockDim, threadIdx;
using std::max;
using std::min;

#include "kernels.cu"

typedef void (*Trampoline)(void** arguments);

template <typename... A, std::size_t... I>
static void unpack(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}

template <typename... A>
static void call(void (*kernel)(A...), void** arguments) {
    unpack(kernel, arguments, std::index_sequence_for<A...>());
}

template <auto KERNEL>
static void run(void** arguments) {
    call(KERNEL, arguments);
}

static const struct {
    const char* name;
    Trampoline kernel;
} KERNELS[] = {
    {"lrn", run<lrn>},
    {"lrn_gradient", run<lrn_gradient>},
    {"max_pool", run<max_pool>},
    {"max_pool_gradient", run<max_pool_gradient>},
};
static int capability[2] = {9, 0}, loaded;

extern "C" {
void fake_capability(int major, int minor) { capability[0] = major, capability[1] = minor; }
int fake_loaded() { return loaded; }

int cuCtxGetCurrent(void** context) { return *context = capability, 0; }
int cuCtxGetDevice(int* device) { return *device = 0, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = capability[attribute - 75], 0; }
int cuModuleLoadData(void** module, const void* image) {
    // An ELF file for NVIDIA's GPUs.
    const unsigned char* bytes = static_cast<const unsigned char*>(image);
    if (std::memcmp(bytes, "\177ELF", 4) != 0 || bytes[18] != 190) return 200;
    loaded++;
    return *module = &loaded, 0;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
    if (module != &loaded) return 1;
    for (const auto& known : KERNELS)
        if (std::strcmp(known.name, name) == 0) return *function = reinterpret_cast<void*>(known.kernel), 0;
    return 500;
}
int cuLaunchKernel(void* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned,
                   void*, void** arguments, void**) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) reinterpret_cast<Trampoline>(function)(arguments);
    return 0;
}
}
