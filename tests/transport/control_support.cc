// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/control_support.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "transport/base/random.h"

namespace penstock::control {

Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes random_body(std::size_t size, std::uint64_t seed) {
  SeededRandom random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next() & 0xff);
  return bytes;
}

Party::Party(const TlsHubOptions& options, const Clock& clock)
    : hub(create_tls_hub(options, clock).value()) {}

void Party::on_accepted(ChannelId channel, const std::string& address) {
  accepted.push_back(channel);
  addresses.push_back(address);
  if (greet) greet(channel);
}

void Party::on_frame(ChannelId channel, std::span<const std::byte> frame) {
  EXPECT_FALSE(closed.contains(channel)) << "a frame after on_closed";
  frames[channel].emplace_back(frame.begin(), frame.end());
  if (answer) answer(channel, frames[channel].back());
}

void Party::on_closed(ChannelId channel, const Status& reason) {
  EXPECT_FALSE(closed.contains(channel)) << "closed twice";
  EXPECT_FALSE(reason.ok());
  closed.emplace(channel, reason);
}

bool until(std::initializer_list<Party*> parties, const std::function<bool()>& done) {
  const SystemClock clock;
  const TimeNs deadline_ns = clock.now_ns() + 10 * kSecond;
  while (!done()) {
    if (clock.now_ns() > deadline_ns) return false;
    std::size_t events = 0;
    std::vector<pollfd> sockets;
    for (Party* party : parties) {
      events += party->poll();
      sockets.push_back({party->hub->fd(), POLLIN, 0});
    }
    if (events == 0) (void)::poll(sockets.data(), sockets.size(), 5);
  }
  return true;
}

void settle(std::initializer_list<Party*> parties) {
  int quiet = 0;
  (void)until(parties, [&] {
    std::vector<pollfd> sockets;
    for (Party* party : parties) sockets.push_back({party->hub->fd(), POLLIN, 0});
    quiet = ::poll(sockets.data(), sockets.size(), 20) == 0 ? quiet + 1 : 0;
    return quiet == 3;
  });
}

Link link(Party& from, Party& to, const std::string& address, const Clock& clock) {
  Link made;
  const std::size_t accepted = to.accepted.size(), connected = from.connected.size();
  auto near = from.hub->connect(address, clock.now_ns() + 5 * kSecond);
  EXPECT_TRUE(near.ok()) << near.status().to_string();
  const bool linked = until({&from, &to}, [&] {
    return (to.accepted.size() > accepted && from.connected.size() > connected) ||
           from.closed.contains(near.value());
  });
  EXPECT_TRUE(linked);
  EXPECT_FALSE(from.closed.contains(*near)) << from.closed_with().to_string();
  made.near = *near;
  made.far = to.accepted.empty() ? 0 : to.accepted.back();
  return made;
}

TlsHubOptions with_secret(const Secret& secret) {
  TlsHubOptions options;
  options.secret = secret.copy();
  return options;
}

TlsHubOptions insecurely() {
  TlsHubOptions options;
  options.insecure = true;
  return options;
}

Stranger::Stranger(const std::string& address) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
  const auto to = resolve(address).value().front();
  EXPECT_EQ(::connect(fd_.get(), to.get(), to.length), 0) << address;
}

bool Stranger::say(std::span<const std::byte> bytes) const {
  return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

std::string Stranger::hear(int wait_ms) const {
  pollfd socket{fd_.get(), POLLIN, 0};
  (void)::poll(&socket, 1, wait_ms);
  std::array<char, 4096> buffer;
  const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  return {buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
}

bool Stranger::turned_away() const {
  std::array<char, 4096> buffer;
  ssize_t got = 1;
  while (got > 0) got = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

std::size_t LogCapture::lines() const {
  const std::string all = text();
  return static_cast<std::size_t>(std::count(all.begin(), all.end(), '\n'));
}

}  // namespace penstock::control
