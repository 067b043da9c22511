// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What Device::address() of this provider says: "tcp:host:port", or "tcp:tls:host:port" where the
// device encrypts, so that a peer that does not knows before it connects.

#include <string>
#include <string_view>

#include "transport/socket/socket.h"

namespace penstock::tcp {

inline constexpr std::string_view kPrefix = "tcp:", kTlsPrefix = "tcp:tls:";

inline bool encrypts(std::string_view address) { return address.starts_with(kTlsPrefix); }

inline std::string device_address(const std::string& host, std::uint16_t port, bool encrypt) {
  return socket::device_address(encrypt ? kTlsPrefix : kPrefix, host, port);
}

inline Result<socket::Address> parse_device_address(const std::string& text) {
  return socket::parse_device_address(encrypts(text) ? kTlsPrefix : kPrefix, text);
}

}  // namespace penstock::tcp
