#include "addon/program.h"

#include "addon/batch.h"
#include "addon/device.h"
#include "addon/program_description.h"

namespace swiftkv::addon {

void ProgramHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&ProgramHandle::get_workspace_bytes>("workspaceBytes"),
                          method<&ProgramHandle::run>("run"),
                          method<&ProgramHandle::cancel>("cancel"),
                          method<&ProgramHandle::read_buffer>("readBuffer"),
                          method<&ProgramHandle::dispose>("dispose"),
                      });
}

ProgramHandle::ProgramHandle(const Napi::CallbackInfo& info) : Handle(info) {
  program_ = take_init<std::shared_ptr<Program>>(info);
  tag(info);
}

const std::shared_ptr<Program>& ProgramHandle::alive() const {
  if (!program_) throw_disposed(Env(), "program");
  program_->device()->require_open();
  return program_;
}

Napi::Value ProgramHandle::get_workspace_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(alive()->workspace_bytes()));
}

Napi::Value ProgramHandle::run(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    const std::shared_ptr<Batch> batch = BatchHandle::alive(info[0], "batch");
    submit_step(environment.executor(), alive(), batch,
                [pending](const Error* error, StepResult result) { pending->settle(error, result.ms); });
  });
}

Napi::Value ProgramHandle::cancel(const Napi::CallbackInfo& info) {
  if (program_) program_->cancel();
  return info.Env().Undefined();
}

Napi::Value ProgramHandle::read_buffer(const Napi::CallbackInfo& info) {
  const auto tensor = static_cast<int32_t>(read_int(info[0], "tensor", 0, kMaxInt32));
  const int64_t rows = read_int(info[1], "rows", 0, kMaxInt32);
  const std::shared_ptr<Program>& program = alive();
  Napi::Float32Array values = new_floats(info.Env(), program->buffer_row_size(tensor) * rows);
  program->read_buffer(tensor, rows, values.Data());
  return values;
}

// A run in flight keeps what it needs and ends early.
Napi::Value ProgramHandle::dispose(const Napi::CallbackInfo& info) {
  if (program_) program_->cancel();
  program_.reset();
  return info.Env().Undefined();
}

Napi::Value make_program(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice> device = DeviceHandle::open_device(info[0]);
  return ProgramHandle::make(info.Env(), Program::create(device, read_program_description(info[1])));
}

}  // namespace swiftkv::addon
