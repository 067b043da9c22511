// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The fabric itself. Private to this folder.

#include <fmt/format.h>
#include <condition_variable>

#include <map>
#include <mutex>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "tests/support/fake_nic/objects.h"
#include "transport/base/random.h"

namespace penstock::test {

// A message of the connection manager under way, delivered in order.
struct CmMessage {
  FakeCmId* to = nullptr;
  rdma_cm_event_type type{};
  int status = 0;
  FakeCmId* listener = nullptr;  // CONNECT_REQUEST
  FakeCmId* from = nullptr;      // nullptr: the local kernel
  rdma_conn_param parameters{};
  std::vector<std::byte> bytes;
};

struct Piece {
  enum Action : std::uint8_t { kExecute, kSendDone, kReceiveDone, kMessage };
  FakeQp* qp = nullptr;
  Action action{};
};

struct FabricState {
  FabricState(const Clock& time, FabricOptions wanted);
  ~FabricState();

  mutable std::mutex mutex;
  const Clock& clock;
  const FabricOptions options;
  SeededRandom random;
  FakeLedger ledger;
  std::vector<std::string> violations;
  std::vector<std::unique_ptr<Object>> objects;  // also the destroyed ones
  std::vector<FakeDevice*> devices;
  std::vector<FakeQp*> queue_pairs;                 // alive
  std::vector<FakeCmId*> cm_ids;                    // alive
  std::unordered_map<std::uint32_t, Object*> keys;  // lkeys and rkeys → FakeMr or FakeMw
  std::map<int, std::span<std::byte>> dmabufs;
  std::vector<std::pair<std::span<std::byte>, std::span<std::byte>>> peer_memory;
  std::deque<CmMessage> messages;
  std::uint32_t next_key_index = 1;
  std::uint32_t next_qp_num = 0x11;
  std::uint16_t next_port = 40'000;
  int registration_error = 0;
  unsigned registrations_to_fail = 0;
  std::vector<Piece> pieces;                         // scratch
  std::vector<std::span<std::byte>> source, target;  // scratch of a transfer
  std::jthread timers;
  std::condition_variable_any wake_timers;

  template <class... Arguments>
  void violation(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
    violations.push_back(fmt::format(text, std::forward<Arguments>(arguments)...));
  }

  // --- objects (fabric.cc)
  template <class T>
  T* make(Kind kind, FakeDevice* device, std::initializer_list<Object*> parents = {}) {
    auto owned = std::make_unique<T>();
    T* made = owned.get();
    adopt(std::move(owned), kind, device, parents);
    return made;
  }
  void adopt(std::unique_ptr<Object> object, Kind kind, FakeDevice* device,
             std::initializer_list<Object*> parents);
  bool full(const FakeDevice& device, Kind kind, int limit) const;
  // EBUSY, and a violation, when something still needs it.
  int retire(Object& object);
  FakeDevice* device_named(std::string_view name) const;
  FakeDevice* device_at(std::string_view ip, std::uint8_t* port) const;
  FakeContext* open_context(FakeDevice& device, bool hidden);
  bool port_active(const FakeDevice& device, std::uint8_t port) const;
  std::string describe(const FakeQp& qp) const;

  // --- events (device.cc)
  void raise(FakeContext& context, const ibv_async_event& event);
  void raise_port(FakeDevice& device, std::uint8_t port, ibv_event_type type);
  void raise_qp(FakeQp& qp, ibv_event_type type);
  void drop_events(ibv_context* of, const Object& about);  // that nobody has fetched

  // --- memory (memory.cc)
  std::uint32_t new_key(Object& object);
  // The bytes, or nullptr when key, protection domain, access or bounds do not allow it.
  std::byte* local_bytes(const FakeQp& qp, const ibv_sge& sge, unsigned access) const;
  std::byte* remote_bytes(const FakeQp& responder, std::uint32_t rkey, std::uint64_t address,
                          std::uint64_t length, unsigned access) const;
  ibv_wc_status bind(const FakeQp& qp, const ibv_send_wr& wr);
  ibv_wc_status invalidate(const FakeQp& qp, std::uint32_t rkey);

  // --- work (engine.cc, wire.cc)
  void work();  // kImmediate: everything that can move now
  void collect_pieces();
  bool perform(const Piece& piece);
  bool can_execute(FakeQp& qp);
  Waits waits_for(FakeQp& qp, const Request& request);
  void start_timer(FakeQp& qp, Waits what);
  void execute(FakeQp& qp);
  FakeQp* reach(const FakeQp& qp) const;
  FakeQp* find_qp(std::uint32_t qp_num) const;
  void complete(FakeQp& qp, const Request& request, ibv_wc_status status, std::uint32_t vendor_err);
  void complete_receive(FakeQp& qp, const Receive& receive, ibv_wc_status status);
  void deliver(FakeQp& qp, bool send);
  void into_queue(FakeCq& cq, const Completed& completed);
  void to_error(FakeQp& qp);
  void forget(FakeQp& qp);  // its queues and completions, as on RESET or destruction

  // --- the connection manager (cm.cc, cm_connect.cc)
  void send_message(CmMessage message);
  void deliver_message();
  void post_event(FakeCmId& to, const CmMessage& message);
  void detach(FakeCmId& id);  // tells the peer, as the kernel does when an id is destroyed
  int connect_qp(FakeCmId& id);
};

// One call of the table on one object: locked, checked, and followed by the work it caused.
class Call {
 public:
  Call(Object& object, std::string_view function)
      : fabric_(*object.fabric), lock_(fabric_.mutex), alive_(object.alive) {
    if (!alive_)
      fabric_.violation("{} of a {} after its destruction", function,
                        kKindNames[static_cast<std::size_t>(object.kind)]);
  }
  ~Call() { fabric_.work(); }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  bool refused() const { return !alive_; }
  FabricState* operator->() const { return &fabric_; }
  FabricState& operator*() const { return fabric_; }

 private:
  FabricState& fabric_;
  std::unique_lock<std::mutex> lock_;
  const bool alive_;
};

// For functions that return −1 or nullptr with errno.
inline int failed(int error) {
  errno = error;
  return -1;
}
inline std::nullptr_t none(int error) {
  errno = error;
  return nullptr;
}

// The fabric that lives.
FabricState& current_fabric();

int modify_qp(FakeQp& qp, const ibv_qp_attr& attr, int mask);  // queue_pair.cc
FakeQp* make_qp(FakePd& pd, ibv_qp_init_attr& wanted);         // nullptr with errno
int destroy_qp(FakeQp& qp);

// Each file fills its part of the table, or of a context's operations.
void fill_device(verbs::VerbsApi& api);
void fill_memory(verbs::VerbsApi& api);
void fill_queues(verbs::VerbsApi& api);
void fill_queue_pairs(verbs::VerbsApi& api);
void fill_cm(verbs::VerbsApi& api);
void fill_cm_connect(verbs::VerbsApi& api);
void fill_memory(ibv_context_ops& ops);
void fill_queues(ibv_context_ops& ops);
void fill_queue_pairs(ibv_context_ops& ops);

}  // namespace penstock::test
