// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The tcp provider: the transport contract over plain TCP connections, for every network and every
// machine. Start here; README.md has the map.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "transport/api/device.h"

namespace penstock {

// MSG_ZEROCOPY: the network card reads lent bytes in place. kAuto tries it on the first large sends
// of each connection and goes on only if the kernel did not copy after all, as it does wherever
// both ends are on one machine. kOn uses it for every post, worth it or not.
enum class Zerocopy : std::uint8_t { kOff, kAuto, kOn };

struct TcpOptions {
  std::string bind_address = "127.0.0.1";  // numeric; "0.0.0.0" for every interface
  std::uint16_t port = 0;                  // 0: any free one
  // What peers are told to connect to: a name or number, resolved once at opening. Empty: the bind
  // address, which must then be a specific one.
  std::string advertise_host;
  Incarnation incarnation = 0;  // of this process's life; 0 makes one up
  // Bytes of socket buffer per connection; 0 leaves the kernel's autotuning on, which is better
  // unless memory is scarce.
  std::uint32_t send_buffer_bytes = 0;
  std::uint32_t receive_buffer_bytes = 0;
  // What the kernel may hold of a connection beyond what is on its way: whatever is posted later
  // waits behind no more than this, so that priorities act late. 0: as much as the send buffer
  // holds, which is megabytes. A sender is woken when half of it is left, so it should be twice
  // what the network takes while a thread wakes up: 1 MiB is 50 us at 10 GB/s.
  std::uint32_t most_unsent_bytes = 1U << 20;
  // A new connection that has not said hello by then is dropped.
  TimeNs hello_timeout_ns = 5 * kSecond;
  Zerocopy zerocopy = Zerocopy::kOff;  // never with `encrypt`
  // TLS 1.3 on every connection, both sides with the same secret (16 bytes at least) and job name.
  // The secret is read while the device opens and not kept.
  bool encrypt = false;
  std::span<const unsigned char> secret = {};
  std::string job = "job";
  // Lets the kernel encrypt what is sent, where it has kTLS; counters() says for how many
  // connections ("tls_offloaded"). Such a socket may raise SIGPIPE whatever we ask of it (seen with
  // Linux 6.1), so the process must not die of that: kInvalidArgument unless it has a handler for
  // SIGPIPE or ignores it.
  bool tls_offload = false;
  // A sending key's life, unless the kernel has it: well below what AES-GCM allows (RFC 8446 §5.5).
  std::uint64_t tls_rekey_bytes = std::uint64_t{64} << 30;
  // Endpoints at a time, waiting ones included; connect() and accept() refuse more: kExhausted.
  std::uint32_t max_endpoints = 1U << 16;
};

// Opens the device and starts listening. `clock` outlives it. Errors: kAlreadyExists when the port
// is taken, kInvalidArgument, kNotFound for an unknown host, kSystem.
// kUnauthenticated when it shall encrypt without a secret, kUnsupported when the kernel has no
// MSG_ZEROCOPY and it is kOn.
Result<std::unique_ptr<Device>> open_tcp_device(const TcpOptions& options, const Clock& clock);

}  // namespace penstock
