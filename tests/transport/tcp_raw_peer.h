// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A peer that says whatever the test wants: a bare socket to a tcp device, and headers that are
// right unless the test spoils them.

#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/transport/tcp_pair.h"
#include "transport/tcp/address.h"
#include "transport/tcp/frame.h"

namespace penstock {

inline std::span<const std::byte> bytes_of(const tcp::FrameHeader& header) {
  return std::as_bytes(std::span(&header, 1));
}

inline tcp::FrameHeader sealed(tcp::FrameHeader header) {
  tcp::seal(header);
  return header;
}

class RawPeer {
 public:
  explicit RawPeer(const std::string& device_address) {
    const socket::Address address = tcp::parse_device_address(device_address).value();
    fd_.reset(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(::connect(fd_.get(), address.get(), address.length) == 0);
    CHECK(socket::set_connection_options(fd_.get(), {}).ok());
  }

  int fd() const { return fd_.get(); }

  // False when the other end takes no more.
  bool say(std::span<const std::byte> bytes) {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  bool say(const tcp::FrameHeader& header) { return say(bytes_of(header)); }
  bool say_hello(const Token& token, std::uint32_t depth = 16) { return say(hello(token, depth)); }
  static std::vector<std::byte> hello(const Token& token, std::uint32_t depth = 16) {
    const tcp::FrameHeader header = sealed({.type = tcp::FrameType::kHello,
                                            .incarnation = 77,
                                            .length = sizeof(Token),
                                            .immediate = depth});
    std::vector<std::byte> bytes(tcp::kHelloBytes);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, token.data(), token.size());
    return bytes;
  }
  void finish() { ::shutdown(fd_.get(), SHUT_WR); }
  void hang_up() { fd_.reset(); }

  // The next frame the device sends, while `drive` keeps the device going; none once it closed.
  std::optional<tcp::FrameHeader> hear(const std::function<void()>& drive) {
    std::vector<std::byte> bytes(tcp::kHeaderBytes);
    std::size_t got = 0;
    bool open = true;
    (void)eventually([&] {
      drive();
      const ssize_t now = ::recv(fd_.get(), bytes.data() + got, bytes.size() - got, MSG_DONTWAIT);
      if (now > 0) got += static_cast<std::size_t>(now);
      open = now > 0 || (now < 0 && errno == EAGAIN);
      return got == bytes.size() || !open;
    });
    tcp::FrameHeader header;
    if (got < bytes.size() || tcp::parse_header(bytes, header) != nullptr) return {};
    return header;
  }
  // True once the device closed this connection without another byte.
  bool closed(const std::function<void()>& drive) {
    bool closed = false;
    (void)eventually([&] {
      drive();
      std::byte byte{};
      const ssize_t now = ::recv(fd_.get(), &byte, 1, MSG_DONTWAIT);
      closed = now == 0 || (now < 0 && errno != EAGAIN);
      return closed || now > 0;
    });
    return closed;
  }

 private:
  UniqueFd fd_;
};

}  // namespace penstock
