// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/key_states.h"

#include <fmt/format.h>

#include "bindings/c/options.h"
#include "bindings/c/tensor.h"
#include "bindings/c/worker.h"

using penstock::Code;
using penstock::Status;
using penstock::c::guarded;
using penstock::c::null_argument;
using penstock::c::on_worker;

// What the opaque handle of the C ABI holds.
struct penstock_key_state {
  penstock::KeyState state;
  std::int64_t elements = 0;  // the shape of every plane
};

extern "C" {

int penstock_worker_read_state(penstock_worker* worker, uint64_t key, int64_t timeout_ms,
                               penstock_key_state** state) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (state == nullptr) return null_argument("state");
    PENSTOCK_ASSIGN_OR_RETURN(
        penstock::KeyState read,
        penstock::read_key_state(worker->requests, self, key,
                                 penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns())));
    const auto elements = static_cast<std::int64_t>(read.planes[0].bytes.size() / sizeof(float));
    *state = new penstock_key_state{std::move(read), elements};
    return {};
  });
}

uint64_t penstock_key_state_steps(const penstock_key_state* state) {
  return state == nullptr ? 0 : state->state.steps;
}

size_t penstock_key_state_count(const penstock_key_state* state) {
  return state == nullptr ? 0 : state->state.planes.size();
}

int penstock_key_state_get(const penstock_key_state* state, size_t index, DLTensor* plane) {
  return guarded([&]() -> Status {
    if (state == nullptr) return null_argument("state");
    if (plane == nullptr) return null_argument("plane");
    if (index >= state->state.planes.size())
      return {Code::kNotFound, fmt::format("the state has {} planes, no plane {}",
                                           state->state.planes.size(), index)};
    const penstock::KeyState::Plane& at = state->state.planes[index];
    const bool wide = at.element_bytes == sizeof(float);
    *plane = {};
    // DLPack knows no memory that is only read; neither the data nor the shape is to be changed.
    plane->data = const_cast<std::byte*>(at.bytes.data());
    plane->shape = const_cast<std::int64_t*>(&state->elements);
    plane->ndim = 1;
    plane->device = {kDLCPU, 0};
    plane->dtype = {static_cast<std::uint8_t>(wide ? kDLFloat : kDLBfloat),
                    static_cast<std::uint8_t>(at.element_bytes * 8), 1};
    return {};
  });
}

void penstock_key_state_destroy(penstock_key_state* state) { delete state; }

int penstock_worker_write_state(penstock_worker* worker, uint64_t key, uint64_t steps,
                                const DLTensor* planes, size_t count, int64_t timeout_ms) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (planes == nullptr) return null_argument("planes");
    std::vector<penstock::PlaneView> views;
    for (size_t i = 0; i < count; ++i) {
      PENSTOCK_ASSIGN_OR_RETURN(
          const auto bytes,
          penstock::c::bytes_from(fmt::format("key {}: elements of plane {}", key, i), planes[i]));
      const DLDataType& type = planes[i].dtype;
      const bool known =
          (type.code == kDLFloat && type.bits == 32) || (type.code == kDLBfloat && type.bits == 16);
      if (!known || type.lanes != 1)
        return {Code::kInvalidArgument,
                fmt::format("key {}: plane {} is neither float32 nor bfloat16", key, i)};
      views.push_back({type.bits / 8U, bytes});
    }
    return penstock::write_key_state(worker->requests, self, key, steps, views,
                                     penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns()));
  });
}
}
