// Runs the self-tests on the host executor, for test/ptx to compare with.
//   swiftkv_ptx_self              prints what there is, as JSON
//   swiftkv_ptx_self NAME IN OUT  reads the kernel's words from file IN, writes its words to OUT
#include <cstdio>
#include <cstring>
#include <vector>

#include "backends/cuda/launcher.h"
#include "backends/simt/schedule.h"
#include "conversions.cu"
#include "copies.cu"
#include "matrices.cu"
#include "sm90.cu"

namespace {

struct SelfTest {
  const char* name;
  void (*kernel)(const uint32_t*, uint32_t*);
  int arch;  // the least that has the instructions
  unsigned blocks, threads;
  size_t in_words, out_words, shared_bytes;
};

constexpr unsigned kWords = 64 * 256;  // threads of the conversions

constexpr SelfTest conversion(const char* name, void (*kernel)(const uint32_t*, uint32_t*), int arch, size_t words) {
  return {name, kernel, arch, kWords / 256, 256, 2 * kWords, words * kWords, 0};
}

constexpr SelfTest kTests[] = {
    {"self_cp_async_16", &self_cp_async_16, 80, 1, 64, 5 * 64, 4 * 64, 4 * 64 * 4},
    {"self_cp_async_4", &self_cp_async_4, 80, 1, 64, 2 * 64, 64, 64 * 4},
    {"self_cp_async_groups", &self_cp_async_groups, 80, 1, 64, 3 * 64, 9 * 64, 3 * 64 * 4},
    {"self_shared_address", &self_shared_address, 80, 1, 32, 32, 32, 64 * 4},
    {"self_ldmatrix_x4", &self_ldmatrix_x4, 80, 1, 32, 160, 128, 512},
    {"self_ldmatrix_x2", &self_ldmatrix_x2, 80, 1, 32, 160, 64, 512},
    {"self_ldmatrix_x4_trans", &self_ldmatrix_x4_trans, 80, 1, 32, 160, 128, 512},
    {"self_ldmatrix_x2_trans", &self_ldmatrix_x2_trans, 80, 1, 32, 160, 64, 512},
    {"self_mma_bf16", &self_mma_bf16, 80, 1, 32, 320, 128, 0},
    {"self_mma_f16", &self_mma_f16, 80, 1, 32, 320, 128, 0},
    conversion("self_pack_bf16x2", &self_pack_bf16x2, 80, 1),
    conversion("self_pack_f16x2", &self_pack_f16x2, 80, 1),
    conversion("self_unpack_f16x2", &self_unpack_f16x2, 80, 2),
    conversion("self_pack_e4m3x2", &self_pack_e4m3x2, 89, 1),
    conversion("self_unpack_e4m3x2_f16x2", &self_unpack_e4m3x2_f16x2, 89, 1),
    conversion("self_pack_e4m3", &self_pack_e4m3, 80, 1),
    conversion("self_widen_e4m3x4", &self_widen_e4m3x4, 80, 4),
    conversion("self_load_store", &self_load_store, 80, 4),
    conversion("self_block_sum", &self_block_sum, 80, 2),
    {"self_named_barrier", &self_named_barrier, 80, 1, 96, 96, 64, 96 * 4},
    {"self_bulk_copy", &self_bulk_copy, 90, 1, 64, 2 * 256, 256, 2 * 1024 + 16},
    {"self_wgmma_64", &self_wgmma_64, 90, 1, 128, kWgmmaIn, 64 * 64, kWgmmaShared},
    {"self_wgmma_128", &self_wgmma_128, 90, 1, 128, kWgmmaIn, 64 * 128, kWgmmaShared},
    {"self_wgmma_256", &self_wgmma_256, 90, 1, 128, kWgmmaIn, 64 * 256, kWgmmaShared},
    {"self_wgmma_64_registers", &self_wgmma_64_registers, 90, 1, 128, kWgmmaIn, 64 * 64, kWgmmaShared},
    {"self_wgmma_128_registers", &self_wgmma_128_registers, 90, 1, 128, kWgmmaIn, 64 * 128, kWgmmaShared},
    {"self_wgmma_256_registers", &self_wgmma_256_registers, 90, 1, 128, kWgmmaIn, 64 * 256, kWgmmaShared},
    {"self_wgmma_transposed", &self_wgmma_transposed, 90, 1, 128, kWgmmaIn, 64 * 64, kWgmmaShared},
    {"self_wgmma_swizzled_64", &self_wgmma_swizzled_64, 90, 1, 128, kWgmmaIn, 64 * 64, kWgmmaShared},
    {"self_wgmma_swizzled_32", &self_wgmma_swizzled_32, 90, 1, 128, kWgmmaIn, 64 * 64, kWgmmaShared},
};

int list() {
  std::printf("[");
  const char* comma = "";
  for (const SelfTest& t : kTests) {
    std::printf("%s\n  {\"name\": \"%s\", \"arch\": %d, \"blocks\": %u, \"threads\": %u, \"inWords\": %zu, ", comma,
                t.name, t.arch, t.blocks, t.threads, t.in_words);
    std::printf("\"outWords\": %zu, \"sharedBytes\": %zu}", t.out_words, t.shared_bytes);
    comma = ",";
  }
  std::printf("\n]\n");
  return 0;
}

// Operands of a grid are 16-byte aligned here as they are on the device.
struct alignas(16) Chunk {
  uint32_t words[4];
};

int run(const SelfTest& t, const char* in_path, const char* out_path) {
  std::vector<Chunk> in((t.in_words + 3) / 4), out((t.out_words + 3) / 4);
  std::FILE* file = std::fopen(in_path, "rb");
  if (file == nullptr || std::fread(in.data(), 4, t.in_words, file) != t.in_words) {
    std::fprintf(stderr, "cannot read %zu words of %s\n", t.in_words, in_path);
    return 1;
  }
  std::fclose(file);
  std::memset(out.data(), 0xff, out.size() * sizeof(Chunk));
  swiftkv::simt::set_schedule({swiftkv::simt::Order::in_order, swiftkv::simt::Landing::late, 0});
  const swiftkv::Status status = swiftkv::cuda::launch(t.name, t.kernel, dim3(t.blocks), dim3(t.threads),
                                                       t.shared_bytes, nullptr, in.data()->words, out.data()->words);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", swiftkv::simt::last_failure().c_str());
    return 1;
  }
  file = std::fopen(out_path, "wb");
  if (file == nullptr || std::fwrite(out.data(), 4, t.out_words, file) != t.out_words) {
    std::fprintf(stderr, "cannot write %s\n", out_path);
    return 1;
  }
  std::fclose(file);
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 1) return list();
  for (const SelfTest& t : kTests) {
    if (count == 4 && std::strcmp(t.name, arguments[1]) == 0) return run(t, arguments[2], arguments[3]);
  }
  std::fprintf(stderr, "usage: swiftkv_ptx_self [NAME IN OUT]\n");
  return 2;
}
