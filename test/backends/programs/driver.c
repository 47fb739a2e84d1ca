// Stands in for libcuda.so.1: a driver of version SWIFTKV_TEST_DRIVER (12040 is CUDA 12.4) without a device. The CUDA
// runtime asks cuGetProcAddress_v2 for every function, and calls cuDriverGetVersion and cuInit before any other.
#include <stdlib.h>
#include <string.h>

enum { kSuccess = 0, kNotInitialized = 3, kNoDevice = 100 };

int cuDriverGetVersion(int* version) {
  *version = atoi(getenv("SWIFTKV_TEST_DRIVER"));
  return kSuccess;
}

int cuInit(unsigned flags) {
  (void)flags;
  return kNoDevice;
}

static int any_other(void) {
  return kNotInitialized;
}

int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags, int* status) {
  (void)version, (void)flags;
  *function = strcmp(name, "cuDriverGetVersion") == 0 ? (void*)cuDriverGetVersion
              : strcmp(name, "cuInit") == 0           ? (void*)cuInit
              : strcmp(name, "cuGetProcAddress") == 0 ? (void*)cuGetProcAddress_v2
                                                      : (void*)any_other;
  if (status != NULL) *status = 0;
  return kSuccess;
}
