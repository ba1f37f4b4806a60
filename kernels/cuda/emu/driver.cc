// driver.cc: the part of the CUDA driver's interface that the product calls, as libcuda.so.1. What is
// queued on a stream runs only when something waits for it, so a program that forgets to wait reads
// old values. Any error of a kernel sticks to its device for the rest of the process, as on a GPU.
//
// Environment: EMU_SEED (order of threads, blocks and streams), EMU_CC (compute capability, 80),
// EMU_DEVICES (1), EMU_MEMORY (MiB of each device, 4096; for each device its own with commas), EMU_DRIVER (version, 12090),
// EMU_FAULT=N:CODE[@D] (launch N of device D, else of device 0, fails with that CUresult), EMU_WRONG=NAME (kernels whose
// names begin so do nothing), EMU_REPORT=FILE (a JSON line a kernel, written when a context is given back),
// EMU_TRACE=FILE (a line a call that queues or waits: "device stream what").
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "async.h"

namespace emu {
int compute_capability = 80;
}
using namespace emu;

static int environment(const char* name, int otherwise) {
  const char* s = getenv(name);
  return s ? atoi(s) : otherwise;
}

struct Work {
  std::function<CUresult()> run;
  CUevent wait = nullptr; // instead: until that event's recording of that number
  unsigned number = 0;
};
struct CUstream_st {
  int device = 0, number = 0;
  std::deque<Work> queue;
  std::vector<Work>* capture = nullptr;
  bool capture_broken = false;
  std::thread::id capture_thread; // what other threads do does not disturb a capture of mode THREAD_LOCAL
  bool capture_elsewhere() const { return capture_thread != std::this_thread::get_id(); }
};
struct CUevent_st {
  unsigned recorded = 0, reached = 0; // recordings that were queued and that have run
  bool done(unsigned number) const { return reached >= number; }
  bool done() const { return done(recorded); }
  double time = 0;
  CUstream stream = nullptr;
};
struct CUgraph_st { std::vector<Work> work; };
struct CUgraphExec_st { std::vector<Work> work; };
struct CUfunc_st {
  const Function* function;
  int shared_limit;
};

static std::recursive_mutex mutex;
constexpr int kMostDevices = 16;
// What belongs to one device: its context.
static struct DeviceState {
  CUstream_st null_stream;
  CUresult sticky = CUDA_SUCCESS;
  unsigned launches = 0;
  size_t memory = 0, used = 0; // bytes
} state[kMostDevices];
static std::vector<CUstream> streams;
static std::map<void*, size_t> pinned;
static std::map<std::string, std::pair<uint64_t, Counters>> report; // launches and counts of each kernel
static std::map<uint64_t, std::pair<int, size_t>> owners; // device and bytes of each allocation
static thread_local CUcontext current;
static unsigned seed, launches, fault_at;
static int devices = 1, driver_version = 12090, fault_code, fault_device;
static const char* wrong;
static FILE* trace_file;

// A context is a device's number and one.
static DeviceState& here() { return state[current ? uintptr_t(current) - 1 : 0]; }

static void trace(CUstream s, const char* what) {
  if (trace_file) fprintf(trace_file, "%d %d %s\n", s->device, s->number, what), fflush(trace_file);
}

#define API extern "C" __attribute__((visibility("default"))) CUresult
#define LOCK                                            \
  std::lock_guard<std::recursive_mutex> lock(mutex);    \
  if (here().sticky) return here().sticky
#define CONTEXT                                                                                  \
  if (!current) return CUDA_ERROR_INVALID_CONTEXT; /* the caller moved to another OS thread */   \
  LOCK

// ---- streams ----

static CUstream stream_of(CUstream s) { return !s || s == CU_STREAM_LEGACY || s == CU_STREAM_PER_THREAD ? &here().null_stream : s; }
static bool is_null(CUstream s) { return s == &state[s->device].null_stream; }

static CUresult flush(CUstream s, CUevent until = nullptr, unsigned number = 0) {
  while (!s->queue.empty() && !(until && until->done(number))) {
    Work w = std::move(s->queue.front());
    s->queue.pop_front();
    CUresult r = CUDA_SUCCESS;
    if (w.wait) {
      if (!w.wait->done(w.number)) r = flush(w.wait->stream, w.wait, w.number);
    } else {
      r = w.run();
    }
    if (r) return r;
  }
  return CUDA_SUCCESS;
}

static CUresult flush_all() {
  CUstream null_stream = &here().null_stream;
  if (CUresult r = flush(null_stream)) return r;
  std::vector<CUstream> order;
  for (CUstream s : streams)
    if (s->device == null_stream->device) order.push_back(s);
  for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[(seed * 7919 + launches) % i]);
  for (CUstream s : order)
    if (CUresult r = flush(s)) return r;
  return CUDA_SUCCESS;
}

// not_capturing refuses what may not be called while a stream records, and spoils the recording.
static CUresult not_capturing() {
  for (CUstream s : streams)
    if (s->capture && s->device == here().null_stream.device && !s->capture_elsewhere()) {
      s->capture_broken = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  return CUDA_SUCCESS;
}
#define NOT_CAPTURING \
  if (CUresult r = not_capturing()) return r

static CUresult queue(CUstream s, std::function<CUresult()> f) {
  s = stream_of(s);
  if (s->capture) {
    s->capture->push_back({std::move(f)});
    return CUDA_SUCCESS;
  }
  if (CUresult r = is_null(s) ? flush_all() : flush(&state[s->device].null_stream)) return r;
  s->queue.push_back({std::move(f)});
  return CUDA_SUCCESS;
}

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// ---- start, devices, contexts ----

static void write_report() {
  const char* path = getenv("EMU_REPORT");
  FILE* f = path ? fopen(path, "w") : nullptr;
  if (!f) return;
  for (auto& [name, r] : report) {
    const Counters& c = r.second;
    fprintf(f, "{\"kernel\":\"%s\",\"launches\":%lu", name.c_str(), r.first);
    for (auto [key, value] : {std::pair{"mma", c.mma}, {"ldmatrix", c.ldmatrix}, {"ldmatrix_conflicts", c.ldmatrix_conflicts},
                              {"cp_async", c.copies}, {"cp_async_conflicts", c.copy_conflicts}, {"barriers", c.barriers}, {"wgmma", c.wgmma}, {"tensor_copies", c.tensor_copies},
                              {"instructions", c.instructions}, {"shared_requests", c.shared_requests},
                              {"shared_conflicts", c.shared_conflicts}, {"global_requests", c.global_requests},
                              {"sectors", c.sectors}, {"sectors_least", c.sectors_least}})
      fprintf(f, ",\"%s\":%lu", key, value);
    fprintf(f, "}\n");
  }
  fclose(f);
}

API cuInit(unsigned) {
  static bool started;
  if (started) return CUDA_SUCCESS;
  started = true;
  seed = environment("EMU_SEED", 1);
  compute_capability = environment("EMU_CC", 80);
  devices = environment("EMU_DEVICES", 1);
  driver_version = environment("EMU_DRIVER", 12090);
  const char* sizes = getenv("EMU_MEMORY");
  size_t size = sizes ? atoi(sizes) : 4096;
  for (int i = 0; i < kMostDevices; i++) {
    state[i].null_stream.device = i;
    state[i].memory = size << 20;
    if (sizes && (sizes = strchr(sizes, ','))) size = atoi(++sizes);
  }
  if (const char* fault = getenv("EMU_FAULT")) sscanf(fault, "%u:%d@%d", &fault_at, &fault_code, &fault_device);
  wrong = getenv("EMU_WRONG");
  if (const char* path = getenv("EMU_TRACE")) trace_file = fopen(path, "a");
  return devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}
API cuDriverGetVersion(int* v) { return *v = driver_version, CUDA_SUCCESS; }
API cuDeviceGetCount(int* n) { return *n = devices, CUDA_SUCCESS; }
API cuDeviceGet(CUdevice* d, int i) { return *d = i, i < 0 || i >= devices ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS; }
API cuDeviceGetName(char* text, int n, CUdevice) {
  snprintf(text, n, "Emulated device sm_%d", compute_capability);
  return CUDA_SUCCESS;
}
API cuDeviceTotalMem(size_t* n, CUdevice d) { return *n = state[d].memory, CUDA_SUCCESS; }
API cuMemGetInfo(size_t* free, size_t* all) {
  CONTEXT;
  *all = here().memory;
  *free = here().memory - here().used;
  return CUDA_SUCCESS;
}
API cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice) {
  switch (int(a)) {
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = compute_capability / 10; break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = compute_capability % 10; break;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *v = 32; break;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 4; break;
  case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = 1024; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: *v = 48 << 10; break;
  // sm_86, 89 and 120 have 99 KiB; the kernels must fit there, so the emulated device has no more.
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *v = (compute_capability < 80 ? 64 : compute_capability == 90 ? 227 : 99) << 10; break;
  default: *v = 0;
  }
  return CUDA_SUCCESS;
}
API cuCtxCreate(CUcontext* c, unsigned, CUdevice d) { return current = *c = CUcontext(uintptr_t(d) + 1), CUDA_SUCCESS; }
API cuCtxDestroy(CUcontext) { return CUDA_SUCCESS; }
API cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) { return *c = CUcontext(uintptr_t(d) + 1), state[d].sticky; }
API cuDevicePrimaryCtxRelease(CUdevice) { return write_report(), CUDA_SUCCESS; }
API cuCtxSetCurrent(CUcontext c) { return current = c, CUDA_SUCCESS; }
API cuCtxGetCurrent(CUcontext* c) { return *c = current, CUDA_SUCCESS; }
API cuCtxPushCurrent(CUcontext c) { return current = c, CUDA_SUCCESS; }
API cuCtxPopCurrent(CUcontext* c) {
  if (c) *c = current;
  return current = nullptr, CUDA_SUCCESS;
}
API cuCtxSynchronize() {
  CONTEXT;
  NOT_CAPTURING;
  return flush_all();
}

// ---- memory ----

API cuMemAlloc(CUdeviceptr* d, size_t n) {
  CONTEXT;
  NOT_CAPTURING;
  if (!n) return CUDA_ERROR_INVALID_VALUE;
  if (here().used + n > here().memory) return CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t at;
  if (!allocate(n, &at)) return CUDA_ERROR_OUT_OF_MEMORY;
  here().used += n;
  owners[at] = {here().null_stream.device, n};
  return *d = at, CUDA_SUCCESS;
}
API cuMemFree(CUdeviceptr d) {
  CONTEXT;
  NOT_CAPTURING;
  if (!d) return CUDA_SUCCESS;
  if (CUresult r = flush_all()) return r;
  auto owner = owners.find(d);
  if (owner == owners.end() || owner->second.first != here().null_stream.device || !release(d)) return CUDA_ERROR_INVALID_VALUE;
  here().used -= owner->second.second;
  owners.erase(owner);
  return CUDA_SUCCESS;
}
API cuMemHostAlloc(void** p, size_t n, unsigned) {
  CONTEXT;
  *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
  if (!*p) return CUDA_ERROR_OUT_OF_MEMORY;
  pinned[*p] = n;
  return CUDA_SUCCESS;
}
API cuMemFreeHost(void* p) {
  CONTEXT;
  if (CUresult r = flush_all()) return r;
  if (!pinned.erase(p)) return CUDA_ERROR_INVALID_VALUE;
  return free(p), CUDA_SUCCESS;
}
static bool is_pinned(const void* p) {
  auto i = pinned.upper_bound(const_cast<void*>(p));
  return i != pinned.begin() && (--i, (const char*)p < (const char*)i->first + i->second);
}
API cuMemcpyHtoD(CUdeviceptr d, const void* s, size_t n) {
  CONTEXT;
  NOT_CAPTURING;
  if (CUresult r = flush_all()) return r;
  if (!inside(d, n)) return CUDA_ERROR_INVALID_VALUE;
  return memcpy((void*)d, s, n), CUDA_SUCCESS;
}
API cuMemcpyDtoH(void* d, CUdeviceptr s, size_t n) {
  CONTEXT;
  NOT_CAPTURING;
  if (CUresult r = flush_all()) return r;
  if (!inside(s, n)) return CUDA_ERROR_INVALID_VALUE;
  return memcpy(d, (void*)s, n), CUDA_SUCCESS;
}
// From pageable memory the driver copies before it returns; from pinned memory the device reads later.
API cuMemcpyHtoDAsync(CUdeviceptr d, const void* s, size_t n, CUstream stream) {
  CONTEXT;
  if (!inside(d, n)) return CUDA_ERROR_INVALID_VALUE;
  if (is_pinned(s)) return queue(stream, [=] { return memcpy((void*)d, s, n), CUDA_SUCCESS; });
  std::string copy((const char*)s, n);
  return queue(stream, [=] { return memcpy((void*)d, copy.data(), n), CUDA_SUCCESS; });
}
API cuMemcpyDtoHAsync(void* d, CUdeviceptr s, size_t n, CUstream stream) {
  CONTEXT;
  if (!inside(s, n)) return CUDA_ERROR_INVALID_VALUE;
  return queue(stream, [=] { return memcpy(d, (void*)s, n), CUDA_SUCCESS; });
}
API cuMemcpyDtoDAsync(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream stream) {
  CONTEXT;
  if (!inside(s, n) || !inside(d, n)) return CUDA_ERROR_INVALID_VALUE;
  return queue(stream, [=] { return memmove((void*)d, (void*)s, n), CUDA_SUCCESS; });
}
API cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream stream) {
  CONTEXT;
  if (!inside(d, n)) return CUDA_ERROR_INVALID_VALUE;
  return queue(stream, [=] { return memset((void*)d, v, n), CUDA_SUCCESS; });
}

// ---- streams and events ----

API cuStreamCreate(CUstream* s, unsigned) {
  CONTEXT;
  static int created;
  streams.push_back(*s = new CUstream_st);
  (*s)->device = here().null_stream.device;
  (*s)->number = ++created;
  return CUDA_SUCCESS;
}
API cuStreamDestroy(CUstream s) {
  CONTEXT;
  CUresult r = flush(s);
  streams.erase(std::find(streams.begin(), streams.end(), s));
  delete s;
  return r;
}
API cuStreamSynchronize(CUstream s) {
  CONTEXT;
  NOT_CAPTURING;
  s = stream_of(s);
  trace(s, "wait");
  return is_null(s) ? flush_all() : flush(s);
}
API cuEventCreate(CUevent* e, unsigned) { return *e = new CUevent_st, CUDA_SUCCESS; }
API cuEventDestroy(CUevent e) {
  LOCK;
  CUresult r = e->done() ? CUDA_SUCCESS : flush(e->stream, e, e->recorded);
  delete e;
  return r;
}
API cuEventRecord(CUevent e, CUstream s) {
  CONTEXT;
  e->stream = stream_of(s);
  unsigned number = ++e->recorded;
  return queue(s, [=] {
    e->time = now();
    e->reached = number;
    return CUDA_SUCCESS;
  });
}
API cuEventSynchronize(CUevent e) {
  LOCK;
  return e->done() ? CUDA_SUCCESS : flush(e->stream, e, e->recorded);
}
API cuEventElapsedTime(float* ms, CUevent a, CUevent b) {
  LOCK;
  if (!a->done() || !b->done()) return CUDA_ERROR_NOT_READY;
  return *ms = float((b->time - a->time) * 1e3), CUDA_SUCCESS;
}
API cuStreamWaitEvent(CUstream s, CUevent e, unsigned) {
  LOCK;
  if (!e->done()) stream_of(s)->queue.push_back({{}, e, e->recorded});
  return CUDA_SUCCESS;
}

// ---- graphs ----

API cuStreamBeginCapture(CUstream s, CUstreamCaptureMode) {
  CONTEXT;
  s = stream_of(s);
  if (is_null(s) || s->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  s->capture = new std::vector<Work>;
  s->capture_broken = false;
  s->capture_thread = std::this_thread::get_id();
  return CUDA_SUCCESS;
}
API cuStreamEndCapture(CUstream s, CUgraph* g) {
  CONTEXT;
  *g = nullptr;
  if (!s->capture) return CUDA_ERROR_ILLEGAL_STATE;
  std::vector<Work>* work = s->capture;
  s->capture = nullptr;
  if (!s->capture_broken) *g = new CUgraph_st{std::move(*work)};
  delete work;
  return s->capture_broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}
API cuGraphInstantiateWithFlags(CUgraphExec* e, CUgraph g, unsigned long long) { return *e = new CUgraphExec_st{g->work}, CUDA_SUCCESS; }
API cuGraphLaunch(CUgraphExec e, CUstream s) {
  CONTEXT;
  trace(stream_of(s), "graph");
  return queue(s, [=] {
    for (const Work& w : e->work)
      if (CUresult r = w.run()) return r;
    return CUDA_SUCCESS;
  });
}
API cuGraphDestroy(CUgraph g) { return delete g, CUDA_SUCCESS; }
API cuGraphExecDestroy(CUgraphExec e) {
  LOCK;
  CUresult r = flush_all();
  delete e;
  return r;
}

// ---- modules and launches ----

API cuModuleLoadData(CUmodule* m, const void* image) {
  uint32_t magic;
  memcpy(&magic, image, 4);
  if (magic != 0xba55ed50 && magic != 0x464c457f) return CUDA_ERROR_INVALID_IMAGE; // fatbin, ELF
  return *m = (CUmodule)1, CUDA_SUCCESS;
}
API cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
API cuModuleGetFunction(CUfunction* f, CUmodule, const char* name) {
  const Function* found = find_function(name);
  if (!found) return CUDA_ERROR_NOT_FOUND;
  return *f = (CUfunction) new CUfunc_st{found, 48 << 10}, CUDA_SUCCESS;
}
API cuFuncSetAttribute(CUfunction f, CUfunction_attribute a, int v) {
  if (a != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
  int most;
  cuDeviceGetAttribute(&most, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0);
  if (v > most) return CUDA_ERROR_INVALID_VALUE;
  return ((CUfunc_st*)f)->shared_limit = v, CUDA_SUCCESS;
}

// A launch's parameter, copied when it is queued. The compiler may ask for up to 128 bytes of alignment.
using Parameter = std::shared_ptr<void>;
static Parameter copy_parameter(const void* p, size_t bytes) {
  Parameter copy(aligned_alloc(128, (bytes + 127) / 128 * 128), free);
  memcpy(copy.get(), p, bytes);
  return copy;
}

static CUresult run(DeviceState& on, const Function* f, Index grid, Index block, unsigned shared, const Parameter& parameter) {
  if (on.sticky) return on.sticky;
  launches++;
  if (++on.launches == fault_at && &on == &state[fault_device]) return on.sticky = CUresult(fault_code);
  if (wrong && !strncmp(f->name, wrong, strlen(wrong))) return CUDA_SUCCESS;
  counters = {};
  const char* error;
  bool ok = run_grid(f, grid, block, shared, parameter.get(), seed, &error);
  auto& [n, sum] = report[f->name];
  n++;
  static_assert(sizeof(Counters) % sizeof(uint64_t) == 0);
  for (size_t i = 0; i < sizeof(Counters) / sizeof(uint64_t); i++) ((uint64_t*)&sum)[i] += ((const uint64_t*)&counters)[i];
  if (ok) return CUDA_SUCCESS;
  fprintf(stderr, "emulated CUDA device: %s\n", error);
  return on.sticky = CUDA_ERROR_ILLEGAL_ADDRESS;
}

API cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   CUstream stream, void** parameters, void**) {
  CONTEXT;
  CUfunc_st* f = (CUfunc_st*)handle;
  uint64_t threads = uint64_t(bx) * by * bz;
  if (!gx || !gy || !gz || gx > 0x7fffffff || gy > 65535 || gz > 65535 || !threads || threads > unsigned(f->function->threads) ||
      int(shared) > f->shared_limit) {
    fprintf(stderr, "emulated CUDA device: %s cannot be launched on a grid %u×%u×%u of %u×%u×%u threads with %u bytes of shared memory\n",
            f->function->name, gx, gy, gz, bx, by, bz, shared);
    return CUDA_ERROR_INVALID_VALUE;
  }
  Parameter parameter = copy_parameter(parameters[0], f->function->parameter_bytes);
  const Function* function = f->function;
  DeviceState* on = &here();
  trace(stream_of(stream), function->name);
  return queue(stream, [=] { return run(*on, function, {gx, gy, gz}, {bx, by, bz}, shared, parameter); });
}

// ---- tensor maps: what cuda.h says of the arguments is checked ----

static unsigned element_bytes(CUtensorMapDataType type) { // 0: of a type that no kernel here has
  return type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? 1 : type == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 || type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 ? 2 : 0;
}
static bool valid_map(CUtensorMap* out, CUtensorMapDataType type, unsigned rank, const void* address, const cuuint64_t* size, const cuuint64_t* pitch,
                      CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle) {
  bool ok = (uintptr_t)out % 64 == 0 && (uintptr_t)address % 16 == 0 && rank >= 2 && rank <= 4 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
            swizzle == CU_TENSOR_MAP_SWIZZLE_128B && element_bytes(type);
  for (unsigned i = 0; ok && i < rank; i++) ok = size[i] >= 1 && size[i] <= uint64_t(1) << 32;
  for (unsigned i = 0; ok && i + 1 < rank; i++) ok = pitch[i] % 16 == 0 && pitch[i] < uint64_t(1) << 40 && pitch[i] >= size[0] * element_bytes(type);
  return ok;
}
static void fill_map(Map& m, CUtensorMapDataType type, unsigned rank, void* address, const cuuint64_t* size, const cuuint64_t* pitch) {
  m.magic = kMapMagic;
  m.rank = rank;
  m.address = (char*)address;
  m.pitch[0] = element_bytes(type);
  for (unsigned i = 0; i < rank; i++) m.size[i] = size[i];
  for (unsigned i = 1; i < rank; i++) m.pitch[i] = pitch[i - 1];
}
API cuTensorMapEncodeTiled(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* size, const cuuint64_t* pitch,
                           const cuuint32_t* box, const cuuint32_t* step, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  if (!valid_map(out, type, rank, address, size, pitch, interleave, swizzle) || box[0] * element_bytes(type) != 128) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned i = 0; i < rank; i++)
    if (box[i] < 1 || box[i] > 256 || step[i] != 1) return CUDA_ERROR_INVALID_VALUE;
  Map m = {};
  fill_map(m, type, rank, address, size, pitch);
  for (unsigned i = 0; i < rank; i++) m.box[i] = box[i];
  memset(out, 0xff, 128);
  return memcpy(out, &m, sizeof m), CUDA_SUCCESS;
}
API cuTensorMapEncodeIm2col(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* address, const cuuint64_t* size, const cuuint64_t* pitch,
                            const int* lower, const int* upper, cuuint32_t channels, cuuint32_t places, const cuuint32_t* step,
                            CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  if (!valid_map(out, type, rank, address, size, pitch, interleave, swizzle) || rank != 4 || channels * element_bytes(type) != 128 || places < 1 || places > 1024)
    return CUDA_ERROR_INVALID_VALUE;
  Map m = {};
  fill_map(m, type, rank, address, size, pitch);
  m.im2col = 1;
  m.box[0] = channels;
  m.box[1] = places;
  for (unsigned i = 0; i < rank; i++) {
    if (step[i] < 1 || step[i] > 8) return CUDA_ERROR_INVALID_VALUE;
    m.step[i] = step[i];
  }
  for (int i = 0; i < 2; i++) {
    if (lower[i] < -128 || lower[i] > 127 || upper[i] < -128 || upper[i] > 127) return CUDA_ERROR_INVALID_VALUE;
    m.lower[i] = lower[i];
    m.upper[i] = upper[i];
  }
  memset(out, 0xff, 128);
  return memcpy(out, &m, sizeof m), CUDA_SUCCESS;
}

// ---- errors ----

static const char* describe(CUresult r) {
  switch (int(r)) {
  case CUDA_SUCCESS: return "no error";
  case CUDA_ERROR_INVALID_VALUE: return "invalid argument";
  case CUDA_ERROR_OUT_OF_MEMORY: return "out of memory";
  case CUDA_ERROR_NO_DEVICE: return "no CUDA-capable device is detected";
  case CUDA_ERROR_INVALID_DEVICE: return "invalid device ordinal";
  case CUDA_ERROR_INVALID_IMAGE: return "device kernel image is invalid";
  case CUDA_ERROR_INVALID_CONTEXT: return "invalid device context";
  case CUDA_ERROR_ECC_UNCORRECTABLE: return "uncorrectable ECC error encountered";
  case CUDA_ERROR_NOT_FOUND: return "named symbol not found";
  case CUDA_ERROR_ILLEGAL_ADDRESS: return "an illegal memory access was encountered";
  case CUDA_ERROR_LAUNCH_FAILED: return "unspecified launch failure";
  case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: return "operation not permitted when stream is capturing";
  }
  return "unrecognized error code";
}
API cuGetErrorString(CUresult r, const char** text) { return *text = describe(r), CUDA_SUCCESS; }
API cuGetErrorName(CUresult r, const char** text) { return *text = describe(r), CUDA_SUCCESS; }
