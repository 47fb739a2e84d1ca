#include "sampling.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <set>

#include "core/random.h"
#include "core_fake_backend.h"

namespace swiftkv::test {
namespace {

float rounded(double x) {
  if (std::isinf(x) || std::isnan(x) || std::fabs(x) <= double{FLT_MAX}) return static_cast<float>(x);
  // Half a unit above the largest float is where rounding turns to infinity.
  const float most = std::fabs(x) < double{FLT_MAX} + 0x1p103 ? FLT_MAX : INFINITY;
  return x > 0 ? most : -most;
}

float clamped(double x) {
  return std::clamp(rounded(x), -FLT_MAX, FLT_MAX);
}

bool penalised(const SamplerSlot& s) {
  return s.repetition_penalty != 1.0f || s.presence_penalty != 0.0f || s.frequency_penalty != 0.0f;
}

int32_t draw_reference(const std::vector<float>& x, const SampledSequence& sequence, int64_t position) {
  const SamplerSlot& s = sequence.state;
  std::vector<int32_t> order;
  for (size_t v = 0; v < x.size(); ++v)
    if (x[v] != -INFINITY) order.push_back(static_cast<int32_t>(v));
  if (order.empty()) return kNothingAllowed;
  const auto logit = [&](int32_t id) { return x[static_cast<size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  const float best = logit(order[0]);
  if (s.temperature == 0.0f) return order[0];
  const auto weight = [&](int32_t id) { return std::exp(double{(logit(id) - best) / s.temperature}); };

  if (s.top_k > 0 && static_cast<size_t>(s.top_k) < order.size()) order.resize(static_cast<size_t>(s.top_k));
  if (s.top_p < 1.0f) {
    double total = 0.0, mass = 0.0;
    for (int32_t id : order) total += weight(id);
    size_t kept = 0;
    while (kept < order.size() && mass < double{s.top_p} * total) mass += weight(order[kept++]);
    order.resize(std::max<size_t>(kept, 1));
  }
  std::erase_if(order, [&](int32_t id) { return weight(id) < double{s.min_p} || weight(id) == 0.0; });

  std::sort(order.begin(), order.end());
  double total = 0.0, mass = 0.0;
  for (int32_t id : order) total += weight(id);
  const double target = sample_uniform(s.seed, s.choice, static_cast<uint32_t>(position)) * total;
  for (int32_t id : order) {
    mass += weight(id);
    if (mass > target) return id;
  }
  return order.back();
}

}  // namespace

SamplerSlot greedy_state() {
  return {.temperature = 0, .top_p = 1, .min_p = 0, .top_k = 0, .seed = 1, .choice = 0};
}

std::shared_ptr<SamplerTable> table_of(int64_t vocab, const std::vector<SampledSequence>& sequences) {
  const auto capacity = static_cast<int32_t>(sequences.size());
  auto table = SamplerTable::create(open_fake(), capacity, static_cast<int32_t>(vocab));
  for (int32_t i = 0; i < capacity; ++i) {
    const SampledSequence& sequence = sequences[static_cast<size_t>(i)];
    table->set(i, sequence.state, sequence.lists());
  }
  return table;
}

void SampleRows::add(const std::vector<float>& row, int32_t slot, int64_t position, int32_t forced_id, int32_t mask) {
  logits.insert(logits.end(), row.begin(), row.end());
  slots.push_back(slot);
  positions.push_back(static_cast<int32_t>(position));
  forced.push_back(forced_id);
  mask_rows.push_back(mask);
}

std::vector<int32_t> SampleRows::run(const LevelDevice& device, const SamplerTable& table) const {
  return run(device, table, 0, static_cast<int64_t>(count()));
}

std::vector<int32_t> SampleRows::run(const LevelDevice& device, const SamplerTable& table, int64_t first,
                                     int64_t rows) const {
  std::vector<int32_t> ids(static_cast<size_t>(rows), -7);
  const SampleParams p{rows,
                       vocab,
                       logits.data() + first * vocab,
                       table.view().slots,
                       slots.data() + first,
                       positions.data() + first,
                       forced.data() + first,
                       masks.empty() ? nullptr : masks.data(),
                       masks.empty() ? nullptr : mask_rows.data() + first,
                       ids.data()};
  CHECK(device.run(OpKind::sample, &p).ok());
  return ids;
}

std::vector<int32_t> SampleRows::expected(const std::vector<SampledSequence>& sequences) const {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count(); ++i) {
    const auto begin = logits.begin() + static_cast<int64_t>(i) * vocab;
    const uint32_t* mask = masks.empty() || mask_rows[i] < 0 ? nullptr : masks.data() + mask_rows[i] * words();
    ids.push_back(sample_reference({begin, begin + vocab}, sequences[static_cast<size_t>(slots[i])], positions[i], mask,
                                   forced[i]));
  }
  return ids;
}

int32_t next_id(const LevelDevice& device, const std::vector<float>& row, const SampledSequence& sequence) {
  SampleRows rows(static_cast<int64_t>(row.size()));
  rows.add(row, 0, static_cast<int64_t>(sequence.outputs.size()));
  return rows.run(device, *table_of(rows.vocab, {sequence}))[0];
}

std::vector<float> adjusted_reference(const std::vector<float>& row, const SampledSequence& sequence,
                                      int64_t position) {
  std::vector<float> x = row;
  const SamplerSlot& s = sequence.state;
  for (size_t i = 0; i < sequence.bias_ids.size(); ++i) {
    float& logit = x[static_cast<size_t>(sequence.bias_ids[i])];
    if (std::isinf(sequence.biases[i])) logit = -INFINITY;
    if (std::isfinite(logit)) logit = clamped(double{logit} + double{sequence.biases[i]});
  }
  if (position < s.min_tokens) {
    for (int32_t id : sequence.end_ids) x[static_cast<size_t>(id)] = -INFINITY;
  }
  for (size_t v = 0; v < x.size(); ++v) {
    const auto id = static_cast<int32_t>(v);
    const auto outputs = std::count(sequence.outputs.begin(), sequence.outputs.end(), id);
    const bool prompt = std::count(sequence.prompt.begin(), sequence.prompt.end(), id) > 0;
    if (!std::isfinite(x[v]) || (outputs == 0 && !prompt)) continue;
    const double repetition = double{s.repetition_penalty};
    x[v] = clamped(x[v] > 0 ? double{x[v]} / repetition : double{x[v]} * repetition);
    if (outputs == 0) continue;
    const float frequency = rounded(double{s.frequency_penalty} * static_cast<double>(outputs));
    x[v] = clamped(double{x[v]} - double{rounded(double{frequency} + double{s.presence_penalty})});
  }
  return x;
}

int32_t sample_reference(const std::vector<float>& row, const SampledSequence& sequence, int64_t position,
                         const uint32_t* mask, int32_t forced) {
  const auto poison = [](float x) { return std::isnan(x) || x == INFINITY; };
  if (std::any_of(row.begin(), row.end(), poison)) return kNoNumbers;
  if (std::all_of(row.begin(), row.end(), [](float x) { return x == -INFINITY; })) return kNoNumbers;
  if (forced >= 0) return forced;
  std::vector<float> allowed = row;
  for (size_t v = 0; v < row.size(); ++v)
    if (mask != nullptr && (mask[v / 32] >> (v % 32) & 1u) == 0) allowed[v] = -INFINITY;
  return draw_reference(adjusted_reference(allowed, sequence, position), sequence, position);
}

std::string counts_difference(const SamplerTable& table, int32_t slot, const SampledSequence& sequence) {
  const SamplerSlot& s = table.view().slots[slot];
  if (!penalised(sequence.state)) return s.counts == nullptr ? "" : "counts without a penalty";
  std::vector<uint32_t> expected(static_cast<size_t>(table.vocab()), 0);
  for (int32_t id : sequence.prompt) expected[static_cast<size_t>(id)] |= kInPrompt;
  for (int32_t id : sequence.outputs) ++expected[static_cast<size_t>(id)];
  std::set<int32_t> met;
  for (size_t v = 0; v < expected.size(); ++v) {
    if (expected[v] > 0) met.insert(static_cast<int32_t>(v));
    if (s.counts[v] != expected[v]) {
      return "id " + std::to_string(v) + " is counted " + std::to_string(s.counts[v]) + ", expected " +
             std::to_string(expected[v]);
    }
  }
  if (std::set<int32_t>(s.seen + 1, s.seen + 1 + s.seen[0]) != met) return "the ids seen are not those counted";
  return static_cast<size_t>(s.seen[0]) == met.size() ? "" : "an id is seen twice";
}

}  // namespace swiftkv::test
