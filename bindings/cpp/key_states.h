// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The state of keys between rounds, fetched from the servers and put back: for checkpoints. Rides
// requests on a channel of its own. One worker calls while no round of the key runs on any: after
// a barrier, and followed by one. Parameter buffers of workers are not touched.

#include <vector>

#include "bindings/cpp/requests.h"

namespace penstock {

// Whole tensors, flattened; a job with other servers, lanes or slices may take them.
struct KeyState {
  std::uint64_t steps = 0;  // that the optimizer has made
  struct Plane {
    std::uint32_t element_bytes = 0;  // 4: float32, 2: bfloat16
    std::vector<std::byte> bytes;
  };
  std::vector<Plane> planes;  // the parameters in float32, then the optimizer's state
};

inline constexpr std::uint32_t kKeyStateChannel = kFirstServiceChannel + 1;

// The server's end: answers one request on kKeyStateChannel.
void handle_key_state(Server& server, Request request);

// The worker's end. kNotFound for a key that no server has; kInvalidArgument while a round runs,
// naming it; kUnsupported for adafactor and on GPU servers.
Result<KeyState> read_key_state(Requests& requests, const Worker& worker, Key key,
                                TimeNs deadline_ns);
// kInvalidArgument when the planes are not those of the key. After another error the key's state is
// undefined until it is written again.
struct PlaneView {
  std::uint32_t element_bytes = 0;
  std::span<const std::byte> bytes;
};
Status write_key_state(Requests& requests, const Worker& worker, Key key, std::uint64_t steps,
                       std::span<const PlaneView> planes, TimeNs deadline_ns);

}  // namespace penstock
