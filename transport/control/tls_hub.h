// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The control connections of one process over TCP (transport/api/control.h says what they promise),
// authenticated and encrypted by TLS 1.3 with a key made from the job secret.

#include <memory>
#include <string>

#include "transport/api/control.h"
#include "transport/control/secret.h"

namespace penstock {

struct TlsHubOptions {
  Secret secret;            // what the processes of the job share; needed unless `insecure`
  std::string job = "job";  // jobs that share a secret by accident are still kept apart
  bool insecure = false;    // neither authenticated nor encrypted; with an empty secret only

  // TCP_USER_TIMEOUT: a peer that acknowledges nothing for so long is lost. The detection time.
  TimeNs user_timeout_ns = 3 * kSecond;

  // What peers may cost us before they are known. When one more connects, the oldest goes.
  std::size_t max_unauthenticated = 128;
  TimeNs handshake_ns = 5 * kSecond;
  std::size_t handshake_bytes = 4096;  // read from one peer; an honest one sends about 400
};

// kUnauthenticated without a secret unless `insecure`, which logs a warning each time;
// kInvalidArgument when both are given. `clock` outlives the hub.
//
// Besides what ControlHub says:
//   - listen() on a name or a wildcard address is allowed; it may be called more than once. A taken
//     port is kAlreadyExists.
//   - listen() and connect() resolve names with getaddrinfo, which may block: give numeric
//     addresses or names in /etc/hosts where that matters. An unknown name is kNotFound at once.
//   - send() on a channel that is still connecting is kept until it is connected.
//   - on_closed: kUnauthenticated when the job secret differs or one side has none,
//     kConnectionLost when the peer is not there, closed, or died, kTimeout at connect's deadline,
//     kProtocol for bytes that no correct peer sends. The hub does not connect again by itself.
//   - destroying the hub closes all channels without events and without waiting; what the sockets'
//     buffers do not take is lost, so poll() until the peers have answered a last message.
Result<std::unique_ptr<ControlHub>> create_tls_hub(const TlsHubOptions& options,
                                                   const Clock& clock);

}  // namespace penstock
