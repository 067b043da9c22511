// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/endpoint.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "transport/parts/post.h"
#include "transport/shm/listener.h"
#include "transport/shm/queue.h"
#include "transport/shm/socket.h"

// Its life: connecting, posting, the socket, ending. The traffic of a step is endpoint_io.cc.

namespace penstock::shm {
namespace {

// Messages taken from one socket before others have their turn.
constexpr int kMailBudget = 64;
// map() waits this long for the peer, who answers when it polls or is woken.
constexpr TimeNs kMapWaitNs = 250 * kMillisecond;
constexpr const char* kMapIt = "shm copies host memory only: map the GPU's and copy with CUDA";

// GPU memory: no post reaches it.
bool lent_only(const RemoteRegion& remote) {
  return !remote.reachable_by(ProviderKind::kShm) &&
         (remote.maps & provider_bit(ProviderKind::kShm)) != 0;
}

// kUnsupported, without the peer, for the first request that would copy GPU memory.
Status refuse_gpu_memory(std::span<const WorkRequest> work) {
  for (const WorkRequest& request : work) {
    if (request.length == 0) continue;
    if (request.local != nullptr && request.local->kind() != MemoryKind::kHost)
      return Status(Code::kUnsupported, "post: the local bytes are GPU memory").with_hint(kMapIt);
    if (request.opcode != Opcode::kSend && request.remote != nullptr && lent_only(*request.remote))
      return Status(Code::kUnsupported, "post: the remote region is GPU memory").with_hint(kMapIt);
  }
  return {};
}

}  // namespace

ShmEndpoint::ShmEndpoint(ShmQueue& queue, RegionTable& regions, Counts& counts, Listener* listener,
                         const EndpointOptions& options, SharedMemory segment,
                         const CudaDriver* cuda)
    : queue_(queue),
      regions_(regions),
      counts_(counts),
      listener_(listener),
      options_(options),
      serial_(queue.attach(*this, options.deadline_ns)),
      state_(listener == nullptr ? State::kConnecting : State::kWaiting),
      segment_fd_(std::move(segment.fd)),
      own_(std::move(segment.mapping)),
      sender_(options.send_depth),
      receiver_(regions, options.scope, options.id),
      imports_(cuda) {}

ShmEndpoint::~ShmEndpoint() {
  end(Status(Code::kCancelled, "destroyed"));
  queue_.detach(*this);
}

void ShmEndpoint::start(const std::string& peer_name) {
  peer_name_ = peer_name;
  say_hello();
}

void ShmEndpoint::say_hello() {
  Result<UniqueFd> socket = connect_to(peer_name_);
  if (!socket.ok()) return end(socket.status());
  if (!socket->valid()) return;  // the peer's device is busy: again at the next poll
  socket_ = std::move(*socket);
  if (!same_user(socket_.get()))
    return end(Status(Code::kAccess, "the peer's process runs as another user"));
  if (Status status = queue_.watch(socket_.get(), *this); !status.ok()) return end(status);
  state_ = State::kGreeting;
  introduce(MessageKind::kHello);
}

void ShmEndpoint::adopt(Adoption adoption) {
  if (state_ != State::kWaiting) return;  // ended meanwhile: the socket closes with `adoption`
  if (Status status = queue_.watch(adoption.peer->socket.get(), *this); !status.ok())
    return end(status);
  open(std::move(adoption.peer));
  introduce(MessageKind::kWelcome);
}

void ShmEndpoint::introduce(MessageKind kind) {
  Message message;
  message.kind = kind;
  message.incarnation = regions_.incarnation();
  message.scope = options_.scope;
  if (kind == MessageKind::kHello) message.token = options_.token;
  if (regions_.probe() != 0) {
    message.probe_address = reinterpret_cast<std::uintptr_t>(&regions_.probe());
    message.probe = regions_.probe();
  }
  const std::array fds{segment_fd_.get(), regions_.published_fd(), queue_.bell()};
  if (send(message, fds)) segment_fd_.reset();
}

void ShmEndpoint::open(std::unique_ptr<Peer> peer) {
  peer_ = std::move(peer);
  regions_.watch(*peer_);
  own_.words().fetches.store(peer_->memory ? 1 : 0, std::memory_order_release);
  state_ = State::kOpen;
  announce_ = true;
}

bool ShmEndpoint::send(const Message& message, std::span<const int> fds) {
  count(counts_.control_messages, 1);
  const int error = send_message(socket(), message, fds);
  if (error == 0) {
    own_.words().mail.store(++mail_sent_, std::memory_order_seq_cst);
    news_ = true;
    if (state_ == State::kOpen) ring();
    return true;
  }
  look_ = true;  // a peer that is gone may have said why
  if (error != EPIPE && error != ECONNRESET)
    end(Status(Code::kConnectionLost, "send to the peer").with_system(error));
  return false;
}

void ShmEndpoint::check_deadline(TimeNs now_ns) {
  if (now_ns < deadline_ns()) return;
  const bool waiting = state_ == State::kWaiting;
  end(Status(Code::kTimeout, waiting ? "accept: no peer named the token before the deadline"
                                     : "connect: no answer before the deadline"));
}

Status ShmEndpoint::status() const {
  if (connected()) return {};
  if (state_ <= State::kWaiting)
    return Status(Code::kConnectionLost, "not connected yet").with_peer(peer_name_);
  return status_;
}

Status ShmEndpoint::post(std::span<const WorkRequest> work) {
  if (!connected()) return status();
  if (work.size() > sender_.free())
    return Status(Code::kExhausted, "post: the send queue is full").with_peer(peer_name_);
  if (Status bad = refuse_gpu_memory(work); !bad.ok()) return std::move(bad).with_peer(peer_name_);
  if (Status bad = parts::check(work, ProviderKind::kShm, kMaxMessageBytes); !bad.ok())
    return std::move(bad).with_peer(peer_name_);
  for (const WorkRequest& request : work) {
    Sender::Post post{.opcode = request.opcode,
                      .has_immediate = request.has_immediate,
                      .immediate = request.immediate,
                      .tag = request.tag,
                      .local = {}};
    if (request.length > 0)
      post.local = request.local->bytes().subspan(request.local_offset, request.length);
    if (request.opcode != Opcode::kSend && request.length > 0) {
      post.incarnation = request.remote->incarnation;
      post.key = request.remote->key[key_slot(ProviderKind::kShm)];
      post.offset = request.remote_offset;
    }
    sender_.push(post);
  }
  return {};
}

Result<std::shared_ptr<RemoteMapping>> ShmEndpoint::map(const RemoteRegion& remote, Access access) {
  if (!connected()) return status();
  if (!allows_map(access) && !allows_write(access))
    return Status(Code::kInvalidArgument, "map: neither kMap nor kRemoteWrite is asked for");
  if ((!remote.reachable_by(ProviderKind::kShm) && !lent_only(remote)) ||
      remote.version != RemoteRegion::kVersion)
    return Status(Code::kUnsupported, "map: the remote region is not one of shm's");
  if (remote.incarnation != peer_->incarnation)
    return Status(Code::kStale, "map: the region is of another life of the peer");
  Message ask;
  ask.kind = MessageKind::kAsk;
  ask.key = remote.key[key_slot(ProviderKind::kShm)];
  ask.to_map = 1;
  const SystemClock clock;
  const TimeNs until_ns = clock.now_ns() + kMapWaitNs;
  while (connected()) {
    bool must_ask = false;
    auto mapping = imports_.map(ask.key, access, must_ask);
    if (!mapping.ok() || *mapping != nullptr) return mapping;
    if (must_ask) send(ask);
    if (!connected()) break;
    const TimeNs left_ns = until_ns - clock.now_ns();
    if (left_ns <= 0) return Status(Code::kTimeout, "map: the peer has not answered yet");
    pollfd wait{socket(), POLLIN, 0};
    ::poll(&wait, 1, static_cast<int>(left_ns / kMillisecond) + 1);
    look_ = true;
    take_mail();  // answers the peer's questions too: it may be waiting likewise
  }
  return status();
}

void ShmEndpoint::take_mail() {
  const bool open = state_ == State::kOpen;
  if (open) {
    const std::uint64_t mail = peer_->segment.words().mail.load(std::memory_order_acquire);
    if (!look_ && mail == mail_seen_) return;
    mail_seen_ = mail;
  }
  look_ = false;
  Parcel parcel;
  for (int i = 0; i < kMailBudget && (state_ == State::kOpen || state_ == State::kGreeting); ++i) {
    if (leaving_) return;
    switch (receive(socket(), parcel)) {
      case Heard::kNothing:
        return;
      case Heard::kHangUp:
        return leave(Status(Code::kConnectionLost, "the peer closed the connection"));
      case Heard::kGarbage:
        return refuse(Code::kProtocol, "the peer sent what is no message");
      case Heard::kMessage:
        take(parcel);
    }
  }
  look_ = true;
}

void ShmEndpoint::take(Parcel& parcel) {
  const Message& message = parcel.message;
  const bool open = state_ == State::kOpen;
  if (message.version != kVersion)
    return end(Status(Code::kUnsupported, "the peer speaks another version of shm"));
  if (!open && message.kind == MessageKind::kWelcome) {
    Result<std::unique_ptr<Peer>> peer = Peer::create(socket_, std::move(parcel));
    if (!peer.ok()) return end(peer.status());
    return this->open(std::move(*peer));
  }
  if (!open && message.kind == MessageKind::kRefusal) return end(refusal(message.code));
  if (open && message.kind == MessageKind::kAsk) return answer(message);
  if (open && message.kind == MessageKind::kGrant) {
    stuck_ = false;
    if (const Status status = imports_.learn(parcel); !status.ok()) {
      refuse(status.code(), status.what().c_str());
    }
    return;
  }
  if (open && message.kind == MessageKind::kFault && message.code != Code::kOk)
    return leave(Status(message.code, "refused by the peer"));
  refuse(Code::kProtocol, "the peer sent a message out of turn");
}

void ShmEndpoint::answer(const Message& ask) {
  Message grant;
  grant.kind = MessageKind::kGrant;
  grant.key = ask.key;
  grant.to_map = ask.to_map;
  const UniqueFd memory = regions_.grant(ask.key, options_.scope, grant);
  const int fd = memory.get();
  send(grant, {&fd, memory.valid() ? std::size_t{1} : 0});
}

// What the peer published before it said so is still taken in.
void ShmEndpoint::leave(Status reason) {
  if (state_ != State::kOpen) return end(std::move(reason));
  leaving_ = true;
  status_ = std::move(reason).with_peer(peer_name_);
  receiver_.set_last(peer_->segment.words().published.load(std::memory_order_acquire));
}

void ShmEndpoint::refuse(Code code, const char* what) {
  Status status(code, what);
  if (state_ == State::kOpen) {
    publish();
    Message fault;
    fault.kind = MessageKind::kFault;
    fault.code = code;
    send(fault);
  }
  end(std::move(status));
}

void ShmEndpoint::end(Status status) {
  if (state_ >= State::kEnding) return;
  if (state_ == State::kWaiting) listener_->forget(queue_, serial_);
  if (state_ == State::kOpen) {
    own_.words().ended.store(1, std::memory_order_seq_cst);
    (void)take_acknowledgements();
    publish();
    ring();
    queue_.unwatch(peer_->socket.get());
    // The peer reads to the end of what was sent and answers by doing the same; until then its
    // copies into our regions are waited for.
    ::shutdown(peer_->socket.get(), SHUT_WR);
    own_.words().mail.store(++mail_sent_, std::memory_order_seq_cst);
    regions_.retire(std::move(peer_));
  }
  state_ = State::kEnding;
  socket_.reset();
  status_ = std::move(status).with_peer(peer_name_);
}

}  // namespace penstock::shm
