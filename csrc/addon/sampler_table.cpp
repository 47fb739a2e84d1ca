#include "addon/sampler_table.h"

#include "addon/device.h"

namespace swiftkv::addon {

namespace {

uint64_t read_seed(Napi::Value value) {
  bool lossless = false;
  if (!value.IsBigInt()) throw_invalid(value.Env(), "Expected a bigint for seed but received " + describe(value));
  const uint64_t seed = value.As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) throw_invalid(value.Env(), "Expected a bigint of 64 bits without a sign for seed");
  return seed;
}

SamplerSlot read_state(Napi::Value value) {
  const Napi::Object state = read_object(value, "state");
  const auto number = [&](const char* name) { return static_cast<float>(read_number(state.Get(name), name)); };
  return {
      .temperature = number("temperature"),
      .top_p = number("topP"),
      .min_p = number("minP"),
      .top_k = static_cast<int32_t>(read_int(state.Get("topK"), "topK", 0, kMaxInt32)),
      .seed = read_seed(state.Get("seed")),
      .choice = static_cast<uint32_t>(read_int(state.Get("choice"), "choice", 0, kMaxInt32)),
      .repetition_penalty = number("repetitionPenalty"),
      .presence_penalty = number("presencePenalty"),
      .frequency_penalty = number("frequencyPenalty"),
      .min_tokens = static_cast<int32_t>(read_int(state.Get("minTokens"), "minTokens", 0, kMaxInt32)),
  };
}

}  // namespace

void SamplerTableHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&SamplerTableHandle::get_capacity>("capacity"),
                          method<&SamplerTableHandle::set>("set"),
                          method<&SamplerTableHandle::dispose>("dispose"),
                      });
}

SamplerTableHandle::SamplerTableHandle(const Napi::CallbackInfo& info) : Handle(info) {
  table_ = take_init<std::shared_ptr<SamplerTable>>(info);
  tag(info);
}

const std::shared_ptr<SamplerTable>& SamplerTableHandle::alive() const {
  if (!table_) throw_disposed(Env(), "sampler table");
  table_->device()->require_open();
  return table_;
}

Napi::Value SamplerTableHandle::get_capacity(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), alive()->capacity());
}

Napi::Value SamplerTableHandle::set(const Napi::CallbackInfo& info) {
  const auto slot = static_cast<int32_t>(read_int(info[0], "slot", 0, kMaxInt32));
  const SamplerSlot state = read_state(info[1]);
  // Properties first: a getter may do anything to the arrays that were read before it.
  const Napi::Object object = info[1].As<Napi::Object>();
  const Napi::Value bias_ids = object.Get("biasIds"), biases = object.Get("biases"), end_ids = object.Get("endIds");
  const SamplerLists lists = {
      .bias_ids = read_ints(bias_ids, "biasIds"),
      .biases = read_floats(biases, "biases"),
      .end_ids = read_ints(end_ids, "endIds"),
      .prompt_ids = read_ints(info[2], "promptIds"),
      .output_ids = read_ints(info[3], "outputIds"),
  };
  alive()->set(slot, state, lists);
  return info.Env().Undefined();
}

Napi::Value SamplerTableHandle::dispose(const Napi::CallbackInfo& info) {
  table_.reset();
  return info.Env().Undefined();
}

Napi::Value make_sampler_table(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice>& device = DeviceHandle::open_device(info[0]);
  const auto capacity = static_cast<int32_t>(read_int(info[1], "capacity", 0, kMaxInt32));
  const auto vocab = static_cast<int32_t>(read_int(info[2], "vocabSize", 0, kMaxInt32));
  return SamplerTableHandle::make(info.Env(), SamplerTable::create(device, capacity, vocab));
}

}  // namespace swiftkv::addon
