// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Process: messages, barriers and who is lost. Its beginning and end are in process_start.cc.

#include "bindings/pslite/process.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "transport/base/log.h"

namespace penstock::pslite {
namespace {

constexpr TimeNs kCustomerWaitNs = 5 * kSecond;  // of a message, for its customer to be made

Role role_of_office(int office) {
  switch (static_cast<Part>(office)) {
    case Part::kServer:
      return Role::kServer;
    case Part::kWorker:
      return Role::kWorker;
    default:
      return Role::kScheduler;
  }
}

}  // namespace

Process& Process::get() {
  static Process* const process = new Process();
  return *process;
}

// Our lines go to standard error: what such programs print is often read by others.
Process::Process() {
  const auto logger = spdlog::default_logger();
  if (logger != nullptr && logger->name().empty())
    logger->sinks() = {std::make_shared<spdlog::sinks::stderr_sink_mt>()};
}

void Process::fatal(const std::string& why) {
  bool throws = false;
  {
    const std::lock_guard lock(mutex_);
    const char* const errors = environment_.find("PENSTOCK_PS_ERRORS");
    throws = settings_.throws || (errors != nullptr && std::strcmp(errors, "throw") == 0);
  }
  if (throws) return;
  std::fprintf(stderr, "ps: %s\n", why.c_str());
  std::abort();
}

// ---- nodes --------------------------------------------------------------------------------------

std::vector<std::shared_ptr<Instance>> Process::instances() {
  const std::lock_guard lock(mutex_);
  return instances_;
}

std::shared_ptr<Instance> Process::shared(const Instance& instance) {
  const std::lock_guard lock(mutex_);
  for (const auto& each : instances_)
    if (each.get() == &instance) return each;
  return nullptr;
}

// The one that the customer started itself, else one that it shares.
std::shared_ptr<Instance> Process::find_instance(Role role, int index, int customer) {
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Instance> found;
  for (const auto& each : instances_) {
    if (each->role() != role || each->index() != index) continue;
    if (each->customer() == customer) return each;
    if (found == nullptr || (!found->running() && each->running())) found = each;
  }
  return found;
}

Result<std::shared_ptr<Instance>> Process::main_instance(int customer) {
  for (const Role role : {Role::kScheduler, Role::kWorker, Role::kServer})
    if (auto found = find_instance(role, 0, customer)) return found;
  return Status(Code::kCancelled, "this process is in no job: Start() comes first");
}

Result<std::shared_ptr<Instance>> Process::carrier(const Address& address) {
  if (address.office < 0) return main_instance(address.customer);
  const Role role = role_of_office(address.office);
  if (auto found = find_instance(role, address.instance, address.customer)) return found;
  return Status(Code::kCancelled,
                fmt::format("this process has no {} {} in a job: Start() comes first",
                            role_name(role), address.instance));
}

std::uint32_t Process::servers() {
  const std::lock_guard lock(mutex_);
  return settings_.server_slots();
}

std::vector<int> Process::all_of(int group) const {
  std::vector<int> ids;
  if ((group & kSchedulerId) != 0) ids.push_back(kSchedulerId);
  for (Rank rank = 0; (group & kServerGroup) != 0 && rank < settings_.server_slots(); ++rank)
    ids.push_back(server_id(rank));
  for (Rank rank = 0; (group & kWorkerGroup) != 0 && rank < settings_.worker_slots(); ++rank)
    ids.push_back(worker_id(rank));
  return ids;
}

Result<std::vector<int>> Process::members(int receiver) {
  const std::lock_guard lock(mutex_);
  if (receiver > 0 && receiver < 8) return all_of(receiver);
  const std::vector<int> everybody = all_of(7);
  if (std::find(everybody.begin(), everybody.end(), receiver) != everybody.end())
    return std::vector<int>{receiver};
  return Status(Code::kNotFound, fmt::format("no node or group {} in this job", receiver));
}

// ---- customers ----------------------------------------------------------------------------------

bool Process::matches(const Customer& customer, const Instance& instance, int app, int number,
                      bool request) {
  const Address& address = customer.address();
  if (address.app != app) return false;
  const bool of_process = address.office < 0;
  if (!of_process &&
      (role_of_office(address.office) != instance.role() || address.instance != instance.index()))
    return false;
  // Servers and the scheduler have one customer of an application; requests go to it.
  return address.customer == number || (request && instance.role() != Role::kWorker);
}

Customer* Process::find(const Instance& instance, const Envelope& envelope) {
  for (Customer* const customer : customers_)
    if (matches(*customer, instance, envelope.app, envelope.customer,
                envelope.kind == Kind::kRequest))
      return customer;
  return nullptr;
}

Status Process::add(Customer& customer) {
  const std::unique_lock lock(customers_mutex_);
  for (const Customer* const other : customers_) {
    const Address &one = other->address(), &two = customer.address();
    if (one.office == two.office && one.instance == two.instance && one.app == two.app &&
        one.customer == two.customer)
      return {Code::kAlreadyExists,
              fmt::format("customer {} of app {} exists already", two.customer, two.app)};
  }
  customers_.push_back(&customer);
  std::deque<Parked> parked;
  parked.swap(parked_);
  for (Parked& each : parked)
    if (find(*each.via, each.message.envelope) == &customer)
      customer.arrived(std::move(each.message));
    else
      parked_.push_back(std::move(each));
  return {};
}

void Process::remove(Customer& customer) {
  const std::unique_lock lock(customers_mutex_);
  std::erase(customers_, &customer);
}

void Process::deliver(Instance& instance, Message&& message) {
  {
    const std::shared_lock lock(customers_mutex_);
    if (Customer* const customer = find(instance, message.envelope))
      return customer->arrived(std::move(message));
  }
  const std::unique_lock lock(customers_mutex_);
  if (Customer* const customer = find(instance, message.envelope))
    return customer->arrived(std::move(message));
  if (message.envelope.kind != Kind::kRequest) return;  // whoever asked is gone
  if (auto via = shared(instance))
    parked_.push_back({std::move(via), std::move(message), clock_.now_ns() + kCustomerWaitNs});
}

void Process::refuse(const Address& address, const Message& request, const Status& why) {
  if (auto via = carrier(address); via.ok()) {
    Message answer = make(Kind::kFailure, request.peer);
    answer.envelope = request.envelope;
    answer.envelope.kind = Kind::kFailure;
    answer.envelope.sequence = answer.envelope.ack = 0;
    answer.envelope.flags |= kSimple;
    answer.parts = {own(why.what())};
    PENSTOCK_LOG_ERROR("ps: a request of node {}: {}", request.peer, why.to_string());
    (void)(*via)->send(std::move(answer));
  }
}

void Process::refuse_late(TimeNs now_ns) {
  std::deque<Parked> late;
  {
    const std::unique_lock lock(customers_mutex_);
    while (!parked_.empty() && parked_.front().deadline_ns <= now_ns) {
      late.push_back(std::move(parked_.front()));
      parked_.pop_front();
    }
  }
  for (const Parked& each : late) {
    const Envelope& envelope = each.message.envelope;
    const Address address{each.via->role() == Role::kServer   ? static_cast<int>(Part::kServer)
                          : each.via->role() == Role::kWorker ? static_cast<int>(Part::kWorker)
                                                              : static_cast<int>(Part::kScheduler),
                          each.via->index(), envelope.app, envelope.customer};
    refuse(
        address, each.message,
        {Code::kNotFound,
         fmt::format("node {} has no customer {} of app {}, and none came in {} s", each.via->id(),
                     envelope.customer, envelope.app, kCustomerWaitNs / kSecond)});
  }
}

// ---- messages -----------------------------------------------------------------------------------

void Process::arrived(Instance& instance, Message&& message) {
  switch (message.envelope.kind) {
    case Kind::kRequest:
    case Kind::kResponse:
    case Kind::kFailure:
      return deliver(instance, std::move(message));
    case Kind::kHello: {
      const std::lock_guard lock(mutex_);
      hellos_.insert(message.peer);
      return changed_.notify_all();
    }
    case Kind::kBarrier:
      return on_barrier(instance, message);
    case Kind::kRelease:
      if (message.peer == kSchedulerId) release(message.envelope.timestamp, message.body());
      return;
    case Kind::kGone:
      if (message.peer == kSchedulerId)
        gone(instance, message.envelope.head, Status(Code::kPeerLost, std::string(message.body())));
      return;
    default:
      return;
  }
}

void Process::place(Instance& instance, int from, const Envelope& envelope,
                    std::span<const std::uint64_t> sizes, std::span<MessagePart> parts) {
  const std::shared_lock lock(customers_mutex_);
  if (Customer* const customer = find(instance, envelope))
    customer->place(from, envelope, sizes, parts);
}

// ---- barriers -----------------------------------------------------------------------------------

Status Process::barrier(int office, int index, int customer, int group) {
  std::shared_ptr<Instance> via;
  if (office < 0) {
    PENSTOCK_ASSIGN_OR_RETURN(via, main_instance(customer));
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(via, carrier({office, index, 0, customer}));
  }
  std::vector<std::int32_t> ids, shared;
  int ticket = 0;
  std::uint64_t job = 0;
  Message message = make(Kind::kBarrier, kSchedulerId);
  {
    const std::lock_guard lock(mutex_);
    const std::vector<int> members = all_of(group);
    for (const auto& each : instances_) {
      if (!each->running() || (office >= 0 && each != via)) continue;
      if (std::find(members.begin(), members.end(), each->id()) == members.end()) continue;
      (each->customer() == customer || office >= 0 ? ids : shared).push_back(each->id());
    }
    // A customer without a node of its own meets its like, on the same nodes.
    if (ids.empty()) message.envelope.app = customer + 1;
    if (ids.empty()) ids = std::move(shared);
    if (ids.empty())
      return {Code::kInvalidArgument,
              fmt::format("a barrier of group {}, which this node is not of", group)};
    ticket = next_ticket_++;
    tickets_[ticket] = {};
    job = jobs_;
  }
  message.envelope.head = group;
  message.envelope.customer = customer;
  message.envelope.timestamp = ticket;
  message.parts = {own({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof ids[0]})};
  Status sent = via->send(std::move(message));
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return !sent.ok() || tickets_[ticket].done || failure_ || scheduler_lost_ || jobs_ != job;
  });
  const Ticket ended = std::move(tickets_[ticket]);
  tickets_.erase(ticket);
  changed_.notify_all();
  if (!ended.refused.empty()) return {Code::kPeerLost, ended.refused};
  if (!sent.ok() || ended.done) return sent;
  if (jobs_ != job) return {Code::kCancelled, "customer 0 took this process out of the job"};
  if (failure_) return *failure_;
  return {Code::kPeerLost, "the scheduler is lost, and barriers need it"};
}

// At the scheduler, whose control loop this is.
void Process::on_barrier(Instance& instance, const Message& message) {
  if (instance.role() != Role::kScheduler) return;
  const std::string_view body = message.body();
  std::vector<int> ids(body.size() / sizeof(std::int32_t));
  if (!ids.empty()) std::memcpy(ids.data(), body.data(), ids.size() * sizeof ids[0]);
  std::vector<BarrierBook::Arrival> released;
  std::vector<BarrierBook::Vain> vain;
  {
    const std::lock_guard lock(mutex_);
    const int group = message.envelope.head, lane = message.envelope.app;
    const std::vector<int> everybody = all_of(7);
    for (const int id : ids)
      if (std::find(everybody.begin(), everybody.end(), id) == everybody.end()) return;
    // Customers without nodes of their own: of the workers, since others have none of them.
    const std::vector<int> members = all_of(lane == 0 ? group : group & kWorkerGroup);
    released =
        barriers_.arrive(group, lane, ids, members, {message.peer, message.envelope.timestamp, 0});
    vain = barriers_.take_vain();
  }
  for (const BarrierBook::Arrival& each : released) {
    Message answer = make(Kind::kRelease, each.from);
    answer.envelope.timestamp = each.ticket;
    (void)instance.send(std::move(answer));
  }
  refuse_barriers(instance, vain);
}

void Process::refuse_barriers(Instance& instance, const std::vector<BarrierBook::Vain>& vain) {
  for (const BarrierBook::Vain& each : vain) {
    Message answer = make(Kind::kRelease, each.arrival.from);
    answer.envelope.timestamp = each.arrival.ticket;
    answer.parts = {
        own(fmt::format("a barrier of group {} waits for {} {}, which has left the job", each.group,
                        role_name(role_of(each.left)), rank_of(each.left)))};
    (void)instance.send(std::move(answer));
  }
}

// why: empty when all have come.
void Process::release(int ticket, std::string_view why) {
  const std::lock_guard lock(mutex_);
  if (const auto found = tickets_.find(ticket); found != tickets_.end())
    found->second = {true, std::string(why)};
  changed_.notify_all();
}

// ---- who is lost --------------------------------------------------------------------------------

void Process::gone(Instance& instance, int id, const Status& reason) {
  if (reason.ok()) {  // in good order, as the scheduler hears
    std::unique_lock lock(mutex_);
    barriers_.leave(id);
    const std::vector<BarrierBook::Vain> vain = barriers_.take_vain();
    lock.unlock();
    return refuse_barriers(instance, vain);
  }
  std::vector<int> others;
  {
    const std::lock_guard lock(mutex_);
    if (!dead_.emplace(id, reason).second) return;
    if (id == kSchedulerId) scheduler_lost_ = true;
    if (instance.role() == Role::kScheduler) others = all_of(kServerGroup | kWorkerGroup);
    changed_.notify_all();
  }
  for (const int other : others) {
    if (other == id) continue;
    Message note = make(Kind::kGone, other);
    note.envelope.head = id;
    note.parts = {own(reason.what())};
    (void)instance.send(std::move(note));
  }
}

// The job is over, badly. Whoever waits for answers hears of it now; others when they wait.
void Process::lost(const Status& why) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_ || stage_ == Stage::kEnding) return;
    failure_ = why;
    changed_.notify_all();
  }
  bool waited = false;
  {
    const std::shared_lock lock(customers_mutex_);
    for (Customer* const customer : customers_) waited |= !customer->idle();
  }
  if (waited) fatal(why.to_string());
  const std::shared_lock lock(customers_mutex_);
  for (Customer* const customer : customers_) (void)customer->fail(why);
}

}  // namespace penstock::pslite
