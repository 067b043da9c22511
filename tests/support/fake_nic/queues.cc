// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Completion queues and channels, shared receive queues.

#include <algorithm>

#include "tests/support/fake_nic/state.h"

namespace penstock::test {
namespace {

ibv_comp_channel* create_comp_channel(ibv_context* raw) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_create_comp_channel");
  if (call.refused()) return none(EINVAL);
  auto* channel = call->make<FakeChannel>(Kind::kChannel, context.nic, {&context});
  channel->context = raw;
  channel->fd = channel->event_fd.get();
  return channel;
}

int destroy_comp_channel(ibv_comp_channel* raw) {
  auto& channel = static_cast<FakeChannel&>(*raw);
  const Call call(channel, "ibv_destroy_comp_channel");
  if (call.refused()) return EINVAL;
  if (const int error = call->retire(channel); error != 0) return error;
  channel.event_fd.close();
  return 0;
}

// The capacity is exactly what was asked; real devices round up, and a program that needs the
// rounding is wrong.
ibv_cq* create_cq(ibv_context* raw, int cqe, void* user, ibv_comp_channel* raw_channel,
                  int vector) {
  auto& context = static_cast<FakeContext&>(*raw);
  const Call call(context, "ibv_create_cq");
  const FakeLimits& limits = context.nic->spec.limits;
  if (call.refused() || cqe < 1 || cqe > limits.max_cqe) return none(EINVAL);
  if (vector < 0 || vector >= context.num_comp_vectors) return none(EINVAL);
  if (raw_channel != nullptr && raw_channel->context != raw) return none(EINVAL);
  if (call->full(*context.nic, Kind::kCq, limits.max_cq)) return none(ENOMEM);
  auto* cq = call->make<FakeCq>(Kind::kCq, context.nic,
                                {&context, static_cast<FakeChannel*>(raw_channel)});
  cq->context = raw;
  cq->channel = raw_channel;
  cq->cq_context = user;
  cq->cqe = cqe;
  return cq;
}

int resize_cq(ibv_cq* raw, int cqe) {
  auto& cq = static_cast<FakeCq&>(*raw);
  const Call call(cq, "ibv_resize_cq");
  if (call.refused() || cqe < 1 || cqe > cq.nic->spec.limits.max_cqe ||
      static_cast<std::size_t>(cqe) < cq.entries.size())
    return EINVAL;
  cq.cqe = cqe;
  return 0;
}

int destroy_cq(ibv_cq* raw) {
  auto& cq = static_cast<FakeCq&>(*raw);
  const Call call(cq, "ibv_destroy_cq");
  if (call.refused()) return EINVAL;
  if (cq.children == 0) {
    call->drop_events(cq.context, cq);
    if (cq.channel != nullptr) {
      static_cast<FakeChannel*>(cq.channel)->events.filter([&](const FakeCq* other) {
        return other != &cq;
      });
    }
    if (cq.unacked > 0)
      call->violation(
          "a cq was destroyed with {} events unacknowledged: the real call never returns",
          cq.unacked);
  }
  return call->retire(cq);
}

int get_cq_event(ibv_comp_channel* raw, ibv_cq** cq, void** user) {
  auto& channel = static_cast<FakeChannel&>(*raw);
  for (;;) {
    if (!EventFd::wait(channel.fd)) return -1;
    const Call call(channel, "ibv_get_cq_event");
    if (channel.events.empty()) continue;  // its queue went in the meantime
    FakeCq* ready = channel.events.pop();
    ++ready->unacked;
    *cq = ready;
    *user = ready->cq_context;
    return 0;
  }
}

void ack_cq_events(ibv_cq* raw, unsigned count) {
  auto& cq = static_cast<FakeCq&>(*raw);
  const Call call(cq, "ibv_ack_cq_events");
  if (count > cq.unacked) call->violation("more cq events acknowledged than were taken");
  cq.unacked -= std::min(count, cq.unacked);
}

// Arms for the *next* completion: those that are there already wake nobody, so whoever does not
// poll once more after arming sleeps for ever. (mlx5 happens to be kinder; the specification not.)
int req_notify_cq(ibv_cq* raw, int solicited_only) {
  auto& cq = static_cast<FakeCq&>(*raw);
  const Call call(cq, "ibv_req_notify_cq");
  if (call.refused()) return EINVAL;
  if (cq.channel == nullptr) {
    call->violation("a cq without a channel was armed");
    return EINVAL;
  }
  if (cq.armed != Armed::kAny) cq.armed = solicited_only != 0 ? Armed::kSolicited : Armed::kAny;
  return 0;
}

int poll_cq(ibv_cq* raw, int count, ibv_wc* wc) {
  auto& cq = static_cast<FakeCq&>(*raw);
  const Call call(cq, "ibv_poll_cq");
  if (call.refused()) return -1;
  ++call->ledger.polls;
  call->work();
  int taken = 0;
  for (; taken < count && !cq.entries.empty(); ++taken) {
    const Completed entry = cq.entries.pop();
    wc[taken] = entry.wc;
    // mlx5 learns that slots are free from the completions its program polls, and from nothing
    // else.
    if (entry.frees_up_to > entry.qp->freed) entry.qp->freed = entry.frees_up_to;
  }
  return taken;
}

ibv_srq* create_srq(ibv_pd* raw, ibv_srq_init_attr* wanted) {
  auto& pd = static_cast<FakePd&>(*raw);
  const Call call(pd, "ibv_create_srq");
  const FakeLimits& limits = pd.nic->spec.limits;
  if (call.refused()) return none(EINVAL);
  if (wanted->attr.max_wr < 1 || wanted->attr.max_wr > static_cast<unsigned>(limits.max_srq_wr) ||
      wanted->attr.max_sge > static_cast<unsigned>(std::min(limits.max_srq_sge, kMaxSge)))
    return none(EINVAL);
  if (call->full(*pd.nic, Kind::kSrq, limits.max_srq)) return none(ENOMEM);
  auto* srq = call->make<FakeSrq>(Kind::kSrq, pd.nic, {&pd});
  srq->context = pd.context;
  srq->pd = raw;
  srq->srq_context = wanted->srq_context;
  srq->queue.capacity = wanted->attr.max_wr;
  srq->queue.max_sge = static_cast<int>(wanted->attr.max_sge);
  return srq;
}

int destroy_srq(ibv_srq* raw) {
  auto& srq = static_cast<FakeSrq&>(*raw);
  const Call call(srq, "ibv_destroy_srq");
  if (call.refused()) return EINVAL;
  call->drop_events(srq.context, srq);
  if (const int error = call->retire(srq); error != 0) return error;
  srq.queue.posted = {};  // its memory; the object stays
  return 0;
}

}  // namespace

void FabricState::deliver(FakeQp& qp, bool send) {
  const Completed completed = (send ? qp.sent : qp.received).pop();
  into_queue(qp.cq(send), completed);
  if (!std::exchange(send ? qp.duplicate_sent : qp.duplicate_received, false)) return;
  into_queue(qp.cq(send), completed);
}

void FabricState::into_queue(FakeCq& cq, const Completed& completed) {
  if (cq.entries.size() == static_cast<std::size_t>(cq.cqe)) {
    // Lost for good, and the queue pair goes on, as on soft-RoCE: the worst of what is real.
    ++ledger.lost;
    violation("a completion of {} found its cq of {} full and is lost", describe(*completed.qp),
              cq.cqe);
    ibv_async_event event{};
    event.event_type = IBV_EVENT_CQ_ERR;
    event.element.cq = &cq;
    raise(static_cast<FakeContext&>(*cq.context), event);
    return;
  }
  cq.entries.push(completed);
  ++ledger.completions;
  const bool error = completed.wc.status != IBV_WC_SUCCESS;
  if (error) ++ledger.errors;
  const bool wakes =
      cq.armed == Armed::kAny || (cq.armed == Armed::kSolicited && (completed.solicited || error));
  if (!wakes) return;
  cq.armed = Armed::kNo;
  auto& channel = static_cast<FakeChannel&>(*cq.channel);
  channel.events.push(&cq);
  channel.event_fd.signal();
  ++ledger.wakeups;
}

void fill_queues(verbs::VerbsApi& api) {
  api.ibv_create_comp_channel = create_comp_channel;
  api.ibv_destroy_comp_channel = destroy_comp_channel;
  api.ibv_create_cq = create_cq;
  api.ibv_resize_cq = resize_cq;
  api.ibv_destroy_cq = destroy_cq;
  api.ibv_get_cq_event = get_cq_event;
  api.ibv_ack_cq_events = ack_cq_events;
  api.ibv_create_srq = create_srq;
  api.ibv_destroy_srq = destroy_srq;
}

void fill_queues(ibv_context_ops& ops) {
  ops.poll_cq = poll_cq;
  ops.req_notify_cq = req_notify_cq;
}

}  // namespace penstock::test
