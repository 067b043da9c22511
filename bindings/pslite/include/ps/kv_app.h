// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// KVWorker and KVServer: pairs of keys and values, pushed to and pulled from the servers that own
// the keys.
//
// Keys ascend, or at least those of one server lie together. `lens` empty: all values are equally
// long. Memory given to a Z… call is used, not copied, until the callback runs: a pull into a
// non-empty array fills just that memory; into an empty one it brings memory. The callback runs
// once, on the customer's own thread, before Wait() returns; it may start requests, not wait.

#include "ps/internal/lending.h"
#include "ps/simple_app.h"

namespace ps {

template <typename Val>
struct KVPairs {
  SArray<Key> keys;
  SArray<Val> vals;
  SArray<int> lens;
  int priority = 0;
};

template <typename Val>
class KVWorker : public SimpleApp {
 public:
  using Callback = std::function<void()>;

  explicit KVWorker(int app_id, int customer_id = 0, int instance_idx = 0)
      : SimpleApp(PENSTOCK_PS_WORKER, instance_idx, app_id, customer_id, sizeof(Val)),
        instance_idx_(instance_idx) {
    StartCustomer();
  }
  virtual ~KVWorker() { StopCustomer(); }

  // ---- copying ----
  int Push(const std::vector<Key>& keys, const std::vector<Val>& vals,
           const std::vector<int>& lens = {}, int cmd = 0, const Callback& cb = nullptr,
           int priority = 0) {
    return ZPush(SArray<Key>(keys), SArray<Val>(vals), SArray<int>(lens), cmd, cb, priority);
  }
  int Pull(const std::vector<Key>& keys, std::vector<Val>* vals, std::vector<int>* lens = nullptr,
           int cmd = 0, const Callback& cb = nullptr, int priority = 0) {
    return Ask(SArray<Key>(keys), SArray<Val>(), Copy(lens), vals, lens, cmd, false, cb, priority);
  }
  int PushPull(const std::vector<Key>& keys, const std::vector<Val>& vals, std::vector<Val>* outs,
               std::vector<int>* lens = nullptr, int cmd = 0, const Callback& cb = nullptr,
               int priority = 0) {
    if (outs == nullptr) internal::Fail("PushPull without a place for the answer");
    if (outs->empty()) outs->resize(vals.size());
    return Ask(SArray<Key>(keys), SArray<Val>(vals), Copy(lens), outs, lens, cmd, true, cb,
               priority);
  }

  // ---- not copying ----
  int ZPush(const SArray<Key>& keys, const SArray<Val>& vals, const SArray<int>& lens = {},
            int cmd = 0, const Callback& cb = nullptr, int priority = 0) {
    penstock_ps_data_request request = penstock_ps_data_request();
    request.push = 1;
    request.plain = cb ? 0 : 1;
    request.context = new internal::Asked(cb);
    return Send(&request, keys, vals, lens, cmd, priority);
  }
  int ZPull(const SArray<Key>& keys, SArray<Val>* vals, SArray<int>* lens = nullptr, int cmd = 0,
            const Callback& cb = nullptr, int priority = 0) {
    return Ask(keys, SArray<Val>(), Copy(lens), vals, lens, cmd, false, cb, priority);
  }
  int ZPushPull(const SArray<Key>& keys, const SArray<Val>& vals, SArray<Val>* outs,
                SArray<int>* lens = nullptr, int cmd = 0, const Callback& cb = nullptr,
                int priority = 0) {
    return Ask(keys, vals, Copy(lens), outs, lens, cmd, true, cb, priority);
  }

  void Wait(int timestamp) override { SimpleApp::Wait(timestamp); }

  const int instance_idx_;

 private:
  static SArray<int> Copy(const std::vector<int>* lens) {
    return lens != nullptr ? SArray<int>(*lens) : SArray<int>();
  }
  static SArray<int> Copy(const SArray<int>* lens) {
    return lens != nullptr ? *lens : SArray<int>();
  }
  template <typename Vals, typename Lens>
  int Ask(const SArray<Key>& keys, const SArray<Val>& pushed, const SArray<int>& sent_lens,
          Vals* vals, Lens* lens, int cmd, bool push, const Callback& cb, int priority) {
    if (vals == nullptr) internal::Fail("a pull without a place for the values");
    penstock_ps_data_request request = penstock_ps_data_request();
    request.push = push ? 1 : 0;
    request.pull = 1;
    request.plain = cb ? 0 : 1;
    request.pull_to = vals->empty() ? nullptr : vals->data();
    request.pull_size = vals->size() * sizeof(Val);
    request.pull_lens = lens != nullptr ? 1 : 0;
    request.context = new internal::AskedForValues<Vals, Lens>(vals, lens, cb);
    return Send(&request, keys, pushed, sent_lens, cmd, priority);
  }
  int Send(penstock_ps_data_request* request, const SArray<Key>& keys, const SArray<Val>& vals,
           const SArray<int>& lens, int cmd, int priority) {
    request->keys = internal::LendKeys(keys);
    request->vals = internal::Lend(vals);
    request->lens = internal::Lend(lens);
    request->max_key = kMaxKey;
    request->command = cmd;
    request->priority = priority;
    request->place_vals = &internal::Asked::PlaceVals;
    request->place_lens = &internal::Asked::PlaceLens;
    request->done = &internal::Asked::Done;
    int timestamp = 0;
    internal::Check(penstock_ps_ask(runtime(), request, &timestamp));
    return timestamp;
  }
};

// What a handler is told of a request, and gives back with the answer: it may be kept.
struct KVMeta {
  int cmd = 0;
  bool push = false;
  bool pull = false;
  int sender = 0;
  int timestamp = 0;
  int customer_id = 0;
  int val_len = 0;  // values that the worker sends or has room for
  Key key = 0;      // the first one
};

template <typename Val>
class KVServer : public SimpleApp {
 public:
  using ReqHandle =
      std::function<void(const KVMeta& req_meta, const KVPairs<Val>& req_data, KVServer* server)>;

  explicit KVServer(int app_id, bool is_scheduler = false, int instance_idx = 0)
      : SimpleApp(is_scheduler ? PENSTOCK_PS_SCHEDULER : PENSTOCK_PS_SERVER, instance_idx, app_id,
                  app_id, sizeof(Val), &KVServer::OnRequest, this),
        instance_idx_(instance_idx) {
    StartCustomer();
  }
  virtual ~KVServer() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ending_ = true;
    }
    handle_set_.notify_all();
    StopCustomer();
  }

  // Called for one request at a time. Copies of the pairs keep their memory. Requests that come
  // before there is a handle wait for it.
  void set_request_handle(const ReqHandle& request_handle) {
    if (!request_handle) internal::Fail("an empty request handle");
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      request_handle_ = std::make_shared<ReqHandle>(request_handle);
    }
    handle_set_.notify_all();
  }

  // Once per request, later, from any thread, in any order. The arrays are used, not copied.
  void Response(const KVMeta& req, const KVPairs<Val>& res = KVPairs<Val>()) {
    penstock_ps_data_response response = penstock_ps_data_response();
    response.receiver = req.sender;
    response.customer = req.customer_id;
    response.timestamp = req.timestamp;
    response.head = req.cmd;
    response.push = req.push ? 1 : 0;
    response.pull = req.pull ? 1 : 0;
    response.keys = internal::LendKeys(res.keys);
    response.vals = internal::Lend(res.vals);
    response.lens = internal::Lend(res.lens);
    internal::Check(penstock_ps_answer(runtime(), &response));
  }

  // What this worker pushes for these keys lands in this memory, which is kept.
  void RegisterRecvBufferWithRank(int worker_rank, const SArray<Key>& keys, const SArray<Val>& vals,
                                  const SArray<int>& lens = SArray<int>()) {
    (void)lens;
    if (keys.empty()) internal::Fail("a receive buffer is registered for a key");
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      buffers_[std::make_pair(worker_rank, Key(keys[0]))] = vals;
    }
    internal::Check(penstock_ps_register_buffer(runtime(), worker_rank, keys[0], vals.data(),
                                                vals.size() * sizeof(Val)));
  }
  void RegisterRecvBuffer(int worker_id, const SArray<Key>& keys, const SArray<Val>& vals,
                          const SArray<int>& lens = SArray<int>()) {
    RegisterRecvBufferWithRank(Postoffice::IDtoRank(worker_id), keys, vals, lens);
  }

  const int instance_idx_;

 private:
  static void OnRequest(void* self, const penstock_ps_message* message) {
    KVServer* const server = static_cast<KVServer*>(self);
    KVPairs<Val> data;
    data.keys = internal::AdoptKeys(message->keys);
    data.vals = internal::Adopt<Val>(message->vals);
    data.lens = internal::Adopt<int>(message->lens);
    KVMeta meta;
    meta.cmd = message->head;
    meta.push = message->push != 0;
    meta.pull = message->pull != 0;
    meta.sender = message->sender;
    meta.timestamp = message->timestamp;
    meta.customer_id = message->customer;
    meta.val_len = static_cast<int>(message->value_count);
    meta.key = data.keys.empty() ? Key(0) : data.keys[0];
    if (const std::shared_ptr<ReqHandle> handle = server->FindHandle())
      (*handle)(meta, data, server);
  }
  std::shared_ptr<ReqHandle> FindHandle() {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool set = handle_set_.wait_for(lock, std::chrono::seconds(30),
                                          [this] { return ending_ || request_handle_ != nullptr; });
    if (!set) internal::Fail("a KVServer got a request and no request handle for 30 s");
    return ending_ ? nullptr : request_handle_;
  }

  std::mutex mutex_;  // of what follows
  std::condition_variable handle_set_;
  bool ending_ = false;
  std::shared_ptr<ReqHandle> request_handle_;
  std::map<std::pair<int, Key>, SArray<Val>> buffers_;
};

// Adds what is pushed, key by key, and gives back the sums. A key has as many values as it got.
template <typename Val>
struct KVServerDefaultHandle {
  void operator()(const KVMeta& req_meta, const KVPairs<Val>& req_data, KVServer<Val>* server) {
    const size_t keys = req_data.keys.size();
    KVPairs<Val> answer;
    if (req_meta.pull) {
      answer.keys = req_data.keys;
      answer.vals.reserve(keys);
    }
    bool single = true;
    size_t at = 0;
    for (size_t i = 0; i < keys; ++i) {
      const Key key = req_data.keys[i];
      size_t pushed = 0;
      if (req_meta.push)
        pushed = req_data.lens.empty() ? req_data.vals.size() / keys
                                       : static_cast<size_t>(req_data.lens[i]);
      Val& first = store[key];
      if (pushed != 0) first += req_data.vals[at];
      std::vector<Val>* const more = pushed > 1 ? &rest[key] : FindRest(key);
      if (more != nullptr && more->size() + 1 < pushed) more->resize(pushed - 1);
      for (size_t j = 1; j < pushed; ++j) (*more)[j - 1] += req_data.vals[at + j];
      at += pushed;
      if (!req_meta.pull) continue;
      answer.vals.push_back(first);
      if (more != nullptr)
        for (const Val& value : *more) answer.vals.push_back(value);
      answer.lens.push_back(static_cast<int>(more != nullptr ? more->size() + 1 : 1));
      single = single && more == nullptr;
    }
    if (single && req_data.lens.empty()) answer.lens.clear();
    server->Response(req_meta, answer);
  }
  std::unordered_map<Key, Val> store;              // the first value of a key
  std::unordered_map<Key, std::vector<Val>> rest;  // the others

 private:
  std::vector<Val>* FindRest(Key key) {
    if (rest.empty()) return nullptr;
    const auto found = rest.find(key);
    return found != rest.end() ? &found->second : nullptr;
  }
};

}  // namespace ps
