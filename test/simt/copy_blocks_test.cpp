// copy_blocks: whole blocks of every cache, in order, and nothing else.
#include <doctest/doctest.h>

#include <cstring>

#include "compare.h"
#include "fixtures.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

// More caches than one launch takes; kinds and sizes change from one to the next.
void check_copies(int num_caches, const std::vector<int32_t>& from, const std::vector<int32_t>& to, int32_t blocks) {
  std::vector<Cache> caches;
  caches.reserve(static_cast<size_t>(num_caches));
  Rng rng(3);
  for (int i = 0; i < num_caches; ++i) {
    const CacheKind& kind = kCacheKinds[static_cast<size_t>(i) % kCacheKinds.size()];
    caches.push_back(Cache({kind.dtype, kind.scales, 1 + i % 3, 6 + i % 5 * 30}, blocks));
    for (size_t j = 0; j < caches.back().memory.size(); ++j)
      caches.back().memory.data()[j] = static_cast<std::byte>(rng.next());
  }
  for_each_schedule(
      [&] {
        const std::vector<Cache> copies = caches;
        std::vector<KvCache> views;
        for (const Cache& c : copies) views.push_back(c.view());
        const CopyBlocksParams p{static_cast<int64_t>(from.size()), from.data(), to.data(), views.data(), num_caches};
        CHECK(why(SimtDevice().run(&cuda::copy_blocks, p)) == "");
        for (size_t c = 0; c < caches.size(); ++c) {
          Bytes expected = caches[c].memory;
          const auto bytes = static_cast<size_t>(views[c].block_bytes);
          for (size_t i = 0; i < from.size(); ++i)
            std::memmove(expected.data() + static_cast<size_t>(to[i]) * bytes,
                         expected.data() + static_cast<size_t>(from[i]) * bytes, bytes);
          INFO("cache ", c);
          CHECK(bit_difference(copies[c].memory.data(), expected.data(), expected.size(), 1) == "");
        }
      },
      2);
}

TEST_CASE("copy_blocks copies whole blocks of every cache, in order, and nothing else") {
  check_copies(4, {0, 5, 1, 3}, {1, 2, 3, 3}, 6);  // block 3 gets what block 1 has just got
  check_copies(1, {2}, {0}, 3);
  check_copies(67, {1, 0, 2}, {0, 2, 1}, 3);
}

TEST_CASE("copy_blocks without pairs or caches") {
  check_copies(2, {}, {}, 2);
  check_copies(0, {0}, {1}, 2);
}

}  // namespace
}  // namespace swiftkv::test
