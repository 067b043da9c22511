// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/connection.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "transport/base/check.h"
#include "transport/parts/post.h"
#include "transport/socket/socket.h"
#include "transport/ucx/queue.h"

// Its life: greeting, pairing, posting, ending. The traffic is connection_io.cc.

namespace penstock::ucx {
namespace {

// UCX may notice a loss before the words that explain it are read from the socket.
constexpr TimeNs kLastWordsNs = kSecond;
// Cutting a line is a local matter: UCX calls back about everything on it within microseconds.
constexpr TimeNs kCutNs = 10 * kSecond;

}  // namespace

Connection::Connection(UcxQueue& queue, const RegionTable& regions, Listener* listener,
                       const EndpointOptions& options)
    : queue_(queue),
      api_(queue.api()),
      regions_(regions),
      listener_(listener),
      options_(options),
      key_(queue.attach(*this, options.deadline_ns)),
      state_(listener == nullptr ? State::kConnecting : State::kWaiting),
      posts_mask_(std::bit_ceil(options.send_depth) - 1),
      posts_(std::make_unique<Post[]>(posts_mask_ + 1)) {}

Connection::~Connection() {
  CHECK(drained(), "a connection is destroyed while UCX uses it");
  if (state_ == State::kWaiting) listener_->forget(queue_, key_);
  queue_.detach(*this);
}

void Connection::start(UniqueFd fd, int error, const std::string& peer) {
  peer_ = peer;
  if (error != 0) return lost("connect", error);
  socket_ = Rendezvous(std::move(fd));
  if (Status status = queue_.watch(socket_.fd(), *this); !status.ok()) end(std::move(status));
}

void Connection::finish_connect() {
  int error = 0;
  socklen_t length = sizeof error;
  CHECK(::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length) == 0);
  if (error != 0) return lost("connect", error);
  greet();
}

void Connection::adopt(Adoption adoption) {
  if (state_ != State::kWaiting) return;  // closed meanwhile: the socket closes with `adoption`
  peer_ = socket::peer_name(adoption.fd.get());
  socket_ = Rendezvous(std::move(adoption.fd), adoption.hello);
  state_ = State::kGreeting;
  if (Status status = queue_.watch(socket_.fd(), *this); !status.ok()) return end(status);
  readable_ = true;
  queue_.mark_ready(*this);
}

// Sends this side's hello or welcome.
void Connection::greet() {
  Result<Worker*> worker =
      listener_ == nullptr ? queue_.connecting_worker() : queue_.accepting_worker();
  if (!worker.ok()) return end(worker.status());
  worker_ = worker.value();
  Greeting greeting;
  greeting.type = listener_ == nullptr ? GreetingType::kHello : GreetingType::kWelcome;
  greeting.token = options_.token;
  greeting.endpoint = key_;
  greeting.worker = worker_->id();
  greeting.depth = options_.send_depth;
  greeting.address_bytes = static_cast<std::uint32_t>(worker_->address().size());
  socket_.send(greeting, worker_->address());
  state_ = listener_ == nullptr ? State::kGreeting : State::kPairing;
}

void Connection::on_socket_events(std::uint32_t epoll_events) {
  if (state_ == State::kConnecting && (epoll_events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
    finish_connect();
  if ((epoll_events & EPOLLOUT) != 0) socket_.flush();
  if ((epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
}

void Connection::read_socket() {
  while (socket_.open() && state_ < State::kEnding) {
    Greeting greeting;
    std::vector<std::byte> address;
    switch (socket_.receive(greeting, address)) {
      case Rendezvous::Got::kNothing:
        readable_ = false;
        return;
      case Rendezvous::Got::kHangUp:
        return lost("the peer closed the connection", socket_.error());
      case Rendezvous::Got::kGarbage:
        return end(Status(Code::kProtocol, socket_.what())
                       .with_hint("run the same version of the program on both ends"));
      case Rendezvous::Got::kGreeting:
        act_on(greeting, address);
    }
  }
}

void Connection::act_on(const Greeting& greeting, std::span<const std::byte> address) {
  const bool connector = listener_ == nullptr;
  switch (greeting.type) {
    case GreetingType::kHello:
      if (!connector && state_ == State::kGreeting) return take_hello(greeting, address);
      break;
    case GreetingType::kWelcome:
      if (connector && state_ == State::kGreeting) return take_welcome(greeting, address);
      break;
    case GreetingType::kPair:
      if (!connector && state_ == State::kPairing) return take_pair(greeting);
      break;
    case GreetingType::kReady:
      if (!connector || state_ != State::kPairing) break;
      state_ = State::kOpen;
      announce_ = true;
      return;
    case GreetingType::kClose:
      (void)acknowledge(greeting.ack);
      return lost("closed by the peer", 0);
    case GreetingType::kError: {
      (void)acknowledge(greeting.ack);
      const bool known = greeting.code > 0 && greeting.code <= static_cast<int>(Code::kSystem);
      return end(Status(known ? static_cast<Code>(greeting.code) : Code::kProtocol,
                        "refused by the peer"));
    }
  }
  refuse(Code::kProtocol, "a greeting out of turn");
}

void Connection::take_hello(const Greeting& hello, std::span<const std::byte> address) {
  if (Status status = remember_peer(hello); !status.ok())
    return refuse(status.code(), "a greeting with impossible numbers");
  peer_address_.assign(address.begin(), address.end());
  hello_ = hello;
  greet();
}

void Connection::take_welcome(const Greeting& welcome, std::span<const std::byte> address) {
  if (Status status = remember_peer(welcome); !status.ok())
    return refuse(status.code(), "a greeting with impossible numbers");
  Result<Worker::Numbered> made = worker_->connect(welcome.worker, address, *this);
  if (!made.ok()) return end(made.status());
  line_ = std::move(made->line);
  state_ = State::kPairing;
  say(GreetingType::kPair, Code::kOk, made->index);
}

void Connection::take_pair(const Greeting& pair) {
  Result<std::unique_ptr<Line>> met =
      worker_->meet(hello_.worker, peer_address_, pair.index, *this);
  peer_address_ = {};
  if (!met.ok()) {
    say(GreetingType::kError, met.status().code());
    return end(met.status());
  }
  line_ = std::move(met).value();
  state_ = State::kOpen;
  announce_ = true;
  say(GreetingType::kReady);
}

Status Connection::remember_peer(const Greeting& greeting) {
  if (greeting.depth == 0 || greeting.depth > kMaxSendDepth || greeting.address_bytes == 0)
    return {Code::kProtocol, "impossible numbers"};
  peer_key_ = greeting.endpoint;
  peer_depth_ = greeting.depth;
  arrivals_mask_ = std::bit_ceil(greeting.depth) - 1;
  arrivals_ = std::make_unique<Arrival[]>(arrivals_mask_ + 1);
  return {};
}

void Connection::say(GreetingType type, Code code, std::uint32_t index) {
  if (!socket_.open()) return;
  Greeting greeting;
  greeting.type = type;
  greeting.code = static_cast<std::uint32_t>(code);
  greeting.index = index;
  greeting.ack = reported_;
  socket_.send(greeting);
}

void Connection::check_deadline(TimeNs now_ns) {
  if (now_ns < deadline_ns()) return;
  const bool waiting = state_ == State::kWaiting;
  end(Status(Code::kTimeout, waiting ? "accept: no peer named the token before the deadline"
                                     : "connect: no answer before the deadline"));
}

Status Connection::status() const {
  if (connected()) return {};
  if (settling()) return Status(Code::kConnectionLost, "not connected yet").with_peer(peer_);
  return status_;
}

Status Connection::post(std::span<const WorkRequest> work) {
  if (!connected()) return status();
  if (work.size() > free_posts())
    return Status(Code::kExhausted, "post: the send queue is full").with_peer(peer_);
  if (Status bad = parts::check(work, ProviderKind::kUcx, kMaxMessageBytes); !bad.ok())
    return std::move(bad).with_peer(peer_);
  for (const WorkRequest& request : work) push(request);
  return {};
}

void Connection::close() {
  if (state_ == State::kOpen || state_ == State::kPairing) say(GreetingType::kClose);
  end(Status(Code::kCancelled, "closed by its owner"));
}

bool Connection::abandon() {
  end(Status(Code::kCancelled, "destroyed by its owner"));
  if (drained()) return true;
  CHECK(queue_.now_ns() < give_up_ns_, "UCX keeps an operation of an endpoint that it closed");
  return false;
}

void Connection::cut_if_using(std::uint64_t key) {
  if (state_ >= State::kEnding || arrivals_ == nullptr) return;
  for (std::uint64_t i = 0; i <= arrivals_mask_; ++i) {
    if (!arrivals_[i].guard || arrivals_[i].header.key != key) continue;
    return refuse(Code::kStale, "a region went away and its transfer did not end");
  }
}

void Connection::refuse(Code code, const char* what) {
  say(GreetingType::kError, code);
  end(Status(code, what));
}

void Connection::lost(std::string what, int error) {
  Status status(Code::kConnectionLost, std::move(what));
  if (error != 0) status = std::move(status).with_system(error);
  if (error == ECONNREFUSED)
    status = std::move(status).with_hint("is the peer's device still open at this address?");
  end(std::move(status));
}

void Connection::end(Status status) {
  if (state_ >= State::kEnding) return;
  if (state_ == State::kWaiting) listener_->forget(queue_, key_);
  status_ = std::move(status).with_peer(peer_);
  state_ = State::kEnding;
  give_up_ns_ = queue_.now_ns() + kCutNs;
  socket_.close();
  const bool used = posted_ > 0 || served_ > 0 || under_way_ > 0;
  if (line_ && used) worker_->close(std::move(line_));
  if (line_) worker_->leave(std::move(line_));
  for (std::uint64_t i = 0; arrivals_ != nullptr && i <= arrivals_mask_; ++i)
    if (void* message = std::exchange(arrivals_[i].message, nullptr))
      api_.ucp_am_data_release(worker_->handle(), message);
  queue_.mark_ready(*this);
}

void Connection::on_line_failed(ucs_status_t status) {
  if (line_failed_ || state_ >= State::kEnding) return;
  line_failed_ = true;
  line_error_ = fmt::format("ucx: {}", api_.ucs_status_string(status));
  give_up_ns_ = queue_.now_ns() + kLastWordsNs;
  queue_.mark_ready(*this);
}

}  // namespace penstock::ucx
