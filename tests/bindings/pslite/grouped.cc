// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program for ByteDance's fork: roles by StartPS(), alone or joint, several instances in a
// process, one key a request, receive buffers that are registered, answers from four threads that
// take their time, and lengths from none to large.

#include <condition_variable>
#include <deque>

#include "ps/ps.h"

using namespace ps;

namespace {

const size_t kLengths[] = {0, 1, 100, 5000, 40000, 300000};
const int kLengthCount = sizeof(kLengths) / sizeof(kLengths[0]);
const int kRounds = 4;

Key KeyOf(int server, int worker, int length) {
  const auto& ranges = Postoffice::Get()->GetServerKeyRanges();
  return ranges[static_cast<size_t>(server)].begin() + static_cast<Key>(worker * 16 + length);
}

char ByteAt(int worker, int length, int round, size_t i) {
  return static_cast<char>(worker * 31 + length * 7 + round * 3 + static_cast<int>(i % 97));
}

// Answers from four threads, in whatever order they come to it.
class Answers {
 public:
  explicit Answers(KVServer<char>* server) {
    for (int i = 0; i < 4; ++i) threads_.emplace_back([this, server]() { Run(server); });
  }
  ~Answers() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  void Later(const KVMeta& meta, const KVPairs<char>& pairs) {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.emplace_back(meta, pairs);
    changed_.notify_one();
  }

 private:
  void Run(KVServer<char>* server) {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this]() { return stop_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const std::pair<KVMeta, KVPairs<char>> next = waiting_.back();  // the newest first
      waiting_.pop_back();
      lock.unlock();
      if (next.first.timestamp % 5 == 0) std::this_thread::yield();
      server->Response(next.first, next.second);
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<KVMeta, KVPairs<char>>> waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

struct ServerState {
  KVServer<char>* server;
  std::unique_ptr<Answers> answers;
  std::map<Key, SArray<char>> buffers;  // registered
  std::map<Key, KVPairs<char>> stored;
};

void Handle(ServerState* state, const KVMeta& meta, const KVPairs<char>& data) {
  CHECK_EQ(data.keys.size(), 1u);
  const Key key = data.keys[0];
  if (meta.push) {
    CHECK_EQ(meta.val_len, static_cast<int>(data.vals.size()));
    if (!data.vals.empty()) CHECK_EQ(data.vals.data(), state->buffers.at(key).data()) << key;
    KVPairs<char> kept;
    kept.keys = data.keys;
    kept.vals.CopyFrom(data.vals.data(), data.vals.size());  // the buffer is written again
    kept.lens.push_back(static_cast<int>(data.vals.size()));
    state->stored[key] = kept;
    state->answers->Later(meta, KVPairs<char>());
  } else {
    state->answers->Later(meta, state->stored.at(key));
  }
}

std::unique_ptr<ServerState> MakeServer(int instance, int server_rank) {
  std::unique_ptr<ServerState> state(new ServerState());
  state->server = new KVServer<char>(0, false, instance);
  state->answers.reset(new Answers(state->server));
  for (int worker = 0; worker < Postoffice::Get()->num_worker_instances(); ++worker)
    for (int length = 0; length < kLengthCount; ++length) {
      SArray<Key> keys(1, KeyOf(server_rank, worker, length));
      SArray<char> vals(kLengths[length] + 1, 0);
      SArray<int> lens(1, static_cast<int>(vals.size()));
      state->buffers[keys[0]] = vals;
      state->server->RegisterRecvBufferWithRank(worker, keys, vals, lens);
    }
  ServerState* const raw = state.get();
  state->server->set_request_handle([raw](const KVMeta& meta, const KVPairs<char>& data,
                                          KVServer<char>*) { Handle(raw, meta, data); });
  return state;
}

void RunWorker(int instance) {
  KVWorker<char> kv(0, 0, instance);
  Postoffice* office = Postoffice::GetWorker(instance);
  office->Barrier(0, kWorkerGroup + kServerGroup);
  const int me = Postoffice::IDtoRank(office->my_node_id());
  const int servers = Postoffice::Get()->num_server_instances();
  for (int round = 0; round < kRounds; ++round) {
    std::vector<int> timestamps;
    std::vector<SArray<char>> kept;
    std::vector<std::unique_ptr<SArray<char>>> pulled;
    std::deque<SArray<int>> lengths;  // in use until the pulls are answered
    for (int server = 0; server < servers; ++server)
      for (int length = 0; length < kLengthCount; ++length) {
        SArray<Key> keys(1, KeyOf(server, me, length));
        SArray<char> vals(kLengths[length], 0);
        for (size_t i = 0; i < vals.size(); ++i) vals[i] = ByteAt(me, length, round, i);
        lengths.push_back(SArray<int>(1, static_cast<int>(vals.size())));
        SArray<int>& lens = lengths.back();
        kept.push_back(vals);
        timestamps.push_back(kv.ZPush(keys, vals, lens));
        pulled.emplace_back(new SArray<char>(kLengths[length], 'z'));
        timestamps.push_back(kv.ZPull(keys, pulled.back().get(), &lens));
      }
    for (int timestamp : timestamps) kv.Wait(timestamp);
    for (size_t j = 0; j < kept.size(); ++j) {
      CHECK_EQ(pulled[j]->size(), kept[j].size());
      CHECK(kept[j].empty() || memcmp(pulled[j]->data(), kept[j].data(), kept[j].size()) == 0)
          << "round " << round << " item " << j;
    }
  }
  office->Barrier(0, kWorkerGroup);
}

}  // namespace

int main() {
  const Node::Role role = GetRole(CHECK_NOTNULL(Environment::Get()->find("DMLC_ROLE")));
  StartPS(0, role, -1, true, "grouped\0");
  const int group = GetEnv("DMLC_GROUP_SIZE", 1);
  std::vector<std::unique_ptr<ServerState>> servers;
  if (IsServer())
    for (int i = 0; i < group; ++i) {
      Postoffice* office = Postoffice::GetServer(i);
      servers.push_back(MakeServer(i, Postoffice::IDtoRank(office->my_node_id())));
    }
  std::vector<std::thread> threads;
  if (IsServer())
    for (int i = 0; i < group; ++i)
      threads.emplace_back(
          [i]() { Postoffice::GetServer(i)->Barrier(0, kWorkerGroup + kServerGroup); });
  if (IsWorker())
    for (int i = 0; i < group; ++i) threads.emplace_back([i]() { RunWorker(i); });
  for (auto& thread : threads) thread.join();
  Finalize(0, role, true);
  for (auto& state : servers) {
    state->answers.reset();
    delete state->server;
  }
  std::cout << "good" << std::endl;
  return 0;
}
