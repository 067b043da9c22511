// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/rendezvous.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace penstock::ucx {
namespace {

void append(std::vector<std::byte>& to, std::span<const std::byte> bytes) {
  const std::size_t had = to.size();
  to.resize(had + bytes.size());
  if (!bytes.empty()) std::memcpy(to.data() + had, bytes.data(), bytes.size());
}

bool has_address(GreetingType type) {
  return type == GreetingType::kHello || type == GreetingType::kWelcome;
}

}  // namespace

Rendezvous::Rendezvous(UniqueFd fd, const Greeting& head) : fd_(std::move(fd)) {
  append(in_, std::as_bytes(std::span(&head, 1)));
}

void Rendezvous::send(const Greeting& greeting, std::span<const std::byte> address) {
  append(out_, std::as_bytes(std::span(&greeting, 1)));
  append(out_, address);
  flush();
}

void Rendezvous::flush() {
  while (fd_.valid() && sent_ < out_.size()) {
    const ssize_t got =
        ::send(fd_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return;  // full: later; broken: receive() says so
    sent_ += static_cast<std::size_t>(got);
  }
  out_.clear();
  sent_ = 0;
}

Rendezvous::Got Rendezvous::receive(Greeting& greeting, std::vector<std::byte>& address) {
  for (;;) {
    std::size_t wanted = sizeof(Greeting);
    if (in_.size() >= sizeof(Greeting)) {
      if (!parse(greeting)) return Got::kGarbage;
      wanted += greeting.address_bytes;
      if (in_.size() == wanted) {
        address.assign(in_.begin() + sizeof(Greeting), in_.end());
        in_.clear();
        return Got::kGreeting;
      }
    }
    const std::size_t had = in_.size();
    in_.resize(wanted);
    const ssize_t got = ::recv(fd_.get(), in_.data() + had, wanted - had, MSG_DONTWAIT);
    const int error = got < 0 ? errno : 0;
    in_.resize(had + static_cast<std::size_t>(got > 0 ? got : 0));
    if (got > 0 || error == EINTR) continue;
    if (error == EAGAIN) return Got::kNothing;
    error_ = error;
    return Got::kHangUp;
  }
}

bool Rendezvous::parse(Greeting& greeting) {
  std::memcpy(&greeting, in_.data(), sizeof greeting);
  if (greeting.magic != kMagic) {
    what_ = "ucx: the peer does not speak this protocol";
  } else if (greeting.version != kVersion) {
    what_ = fmt::format("ucx: the peer speaks version {} of the protocol, this side version {}",
                        greeting.version, kVersion);
  } else if (greeting.address_bytes > (has_address(greeting.type) ? kMaxAddressBytes : 0)) {
    what_ = "ucx: a greeting that is too long";
  } else {
    return true;
  }
  return false;
}

}  // namespace penstock::ucx
