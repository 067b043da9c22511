// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// "auto": several providers as one device. For each peer it takes the first provider, in the order
// given, that both sides have and that reaches the peer; memory is registered with all of them, so
// one description serves every peer. Endpoints are the chosen provider's own: nothing stands
// between the engine and the wire.

#include <memory>
#include <string>
#include <vector>

#include "transport/api/device.h"

namespace penstock {

// A provider that could not be opened, and why.
struct RefusedProvider {
  ProviderKind kind{};
  Status reason;
};

// `devices`: fastest first, not empty, one of a kind, all of one incarnation. `refused` only
// explains itself in Route::why. kInvalidArgument when two devices are of one kind or none is
// given.
Result<std::unique_ptr<Device>> create_auto_device(std::vector<std::unique_ptr<Device>> devices,
                                                   std::vector<RefusedProvider> refused);

}  // namespace penstock
