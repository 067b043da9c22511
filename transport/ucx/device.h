// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ucx provider's entrance; needs no header of UCX. README.md has the map.

#include <cstdint>
#include <memory>
#include <string>

#include "transport/api/device.h"

namespace penstock {

struct UcxOptions {
  std::string bind_address = "127.0.0.1";  // numeric, of the rendezvous socket; UCX chooses its own
  std::uint16_t port = 0;                  // 0: any free one
  // What peers are told to connect to: a name or number, resolved once at opening. Empty: the bind
  // address, which must then be a specific one.
  std::string advertise_host;
  // UCX's transports, as in UCX_TLS: "tcp,self", "posix,sysv,cma,self", "rc,ud,self", … Empty: what
  // the environment and UCX itself choose. All other settings of UCX come from its environment.
  std::string transports;
  Incarnation incarnation = 0;  // of this process's life; 0 makes one up
  // A new connection that has not said hello by then, or whose token nobody waits for, is refused.
  TimeNs hello_timeout_ns = 5 * kSecond;
};

// Opens the device and starts listening. `clock` outlives it. Errors: kUnsupported when UCX or the
// asked transports are not here, saying which and the way out; kAlreadyExists when the port is
// taken; kInvalidArgument, kNotFound for an unknown host, kSystem.
Result<std::unique_ptr<Device>> open_ucx_device(const UcxOptions& options, const Clock& clock);

}  // namespace penstock
