// What the numbers of an i32 operand mean, and so which of them a kernel may be given.
#pragma once

#include <cstdint>

namespace swiftkv {

enum class IndexRole : int32_t {
  none,             // not followed by the kernel
  token,            // [0, V)
  position,         // [0, P): a row of the RoPE table; in attention, below the sequence's context length
  slot,             // [-1, NB * 16)
  source_slot,      // [0, NB * 16)
  survivor,         // a row of all rows, [0, T)
  logit_row,        // a row of the surviving rows, [0, S)
  query_start,      // ascending from 0 to rows
  context_len,      // [0, table stride * 16]
  table_row,        // [0, tables)
  block_table,      // [0, NB) as far as the context reaches
  sampler_slot,     // [0, slots of the sampler table)
  output_position,  // >= 0
  block,            // [0, NB)
  logprob_row,      // a logit row, [0, R)
  forced_token,     // [-1, V)
  mask_row,         // [-1, masks)
  row,              // a row of another operand: survivor, logit_row and logprob_row are its kinds in a program
};

}  // namespace swiftkv
