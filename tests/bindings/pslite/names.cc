// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Every name that programs of the three dialects use, in the ways in which they use it. Compiled in
// each C++ standard, with no header but this one, and run without a job: what needs no node is
// checked.

#include "ps/ps.h"

namespace {

// ---- transitive standard headers ---------------------------------------------------------------

void StandardHeaders() {
  char text[8];
  std::memset(text, 0, sizeof(text));
  std::function<int()> one = []() { return 1; };
  std::thread thread([&one]() { one(); });
  thread.join();
  std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  std::unordered_map<std::string, std::vector<int>> map;
  std::shared_ptr<int> shared = std::make_shared<int>(1);
  std::atomic<int> atomic(std::numeric_limits<int>::max());
  CHECK_GT(time(nullptr), 0);
  std::queue<double> queue;
  queue.push(fabs(-1.0) + std::sqrt(4.0));
}

void Queues() {
  ps::ThreadsafeQueue<std::unique_ptr<int>> queue;
  std::thread pusher([&queue]() { queue.Push(std::unique_ptr<int>(new int(1))); });
  std::unique_ptr<int> one, two;
  queue.WaitAndPop(&one);
  pusher.join();
  CHECK_EQ(*one, 1);
  CHECK_EQ(queue.Size(), 0);
  CHECK(!queue.TryPop(&two));
}

// ---- the macros ---------------------------------------------------------------------------------

void Macros() {
  std::vector<int> values = {1, 2};
  CHECK(!values.empty()) << "never said";
  CHECK_EQ(values.begin(), values.begin());  // iterators cannot be printed
  CHECK_NE(values.begin(), values.end()) << "never said";
  CHECK_LT(1, 2);
  CHECK_LE(1, 1);
  CHECK_GT(2, 1);
  CHECK_GE(2, 2);
  int* pointer = CHECK_NOTNULL(values.data());
  if (*pointer == 1) LOG(INFO) << "an information";
  LOG_IF(WARNING, values.empty()) << "never said";
  LOG(WARNING) << "a warning";
  LOG(ERROR) << "an error";
  LL << "an error, too";
  PS_VLOG(100) << "never said";
  bool thrown = false;
  try {
    CHECK_EQ(1, 2) << "said";
  } catch (const dmlc::Error& error) {
    thrown = std::string(error.what()).find("said") != std::string::npos;
  }
  CHECK(thrown);
  try {
    LOG(FATAL) << "the end";
    thrown = false;
  } catch (const std::runtime_error&) {
  }
  CHECK(thrown);
}

// ---- constants, Environment, Range --------------------------------------------------------------

void Constants() {
  static_assert(sizeof(ps::Key) == 8, "keys have 64 bits");
  CHECK_EQ(ps::kMaxKey, std::numeric_limits<uint64_t>::max());
  CHECK_EQ(ps::kScheduler + ps::kServerGroup + ps::kWorkerGroup, 7);
  const ps::Node::Role roles[] = {ps::Node::SERVER, ps::Node::WORKER, ps::Node::SCHEDULER,
                                  ps::Node::JOINT};
  CHECK_EQ(ps::GetRole(std::string("joint")), roles[3]);
  CHECK_EQ(ps::GetRole("server"), ps::Node::SERVER);
  using namespace ps;
  DeviceType type = CPU;
  CHECK_NE(type, GPU);
  CHECK_EQ(GetEnv("A_NAME_NOBODY_SETS", 7), 7);
  const char* otherwise = "text";
  CHECK_EQ(std::string(GetEnv("A_NAME_NOBODY_SETS", otherwise)), "text");
}

void Environments() {
  ps::Environment::Init({{"A_NAME_OF_OURS", "42"}, {"DMLC_ROLE", "worker"}});
  std::unordered_map<std::string, std::string> unordered;
  unordered["DMLC_NUM_WORKER"] = "3";
  ps::Environment::Init(unordered);
  std::map<std::string, std::string> ordered;
  ordered["DMLC_NUM_SERVER"] = "2";
  ps::Environment::Init(ordered);
  CHECK_EQ(std::string(CHECK_NOTNULL(ps::Environment::Get()->find("A_NAME_OF_OURS"))), "42");
  const char* missing = ps::Environment::Get()->find("A_NAME_NOBODY_SETS");
  CHECK(missing == nullptr);
  CHECK_EQ(ps::GetEnv("A_NAME_OF_OURS", 0), 42);
  // Asked before Start().
  CHECK(ps::IsWorker() && !ps::IsServer() && !ps::IsScheduler());
  CHECK_EQ(ps::NumWorkers(), 3);
  CHECK_EQ(ps::NumServers(), 2);
  CHECK_EQ(ps::MyRank(), 0);
}

void Postoffices() {
  ps::Postoffice* office = ps::Postoffice::Get();
  const std::vector<ps::Range>& ranges = office->GetServerKeyRanges();
  CHECK_EQ(ranges.size(), 2u);
  CHECK_EQ(ranges[0].begin(), 0u);
  CHECK_EQ(ranges[1].begin(), ps::kMaxKey / 2);
  CHECK_EQ(ranges[1].size(), ps::kMaxKey / 2);
  CHECK_EQ(ranges[0].end(), ranges[1].begin());
  CHECK_EQ(ps::Range().size(), 0u);
  CHECK_EQ(ps::Range(3, 5).end(), 5u);
  CHECK_EQ(office->GetNodeIDs(7).size(), 6u);
  CHECK_EQ(office->GetNodeIDs(ps::kWorkerGroup).back(), office->WorkerRankToID(2));
  CHECK_EQ(office->ServerRankToID(1), 10);
  CHECK_EQ(ps::Postoffice::WorkerRankToID(0), 9);
  CHECK(office->GetDeadNodes(60).empty() && office->GetDeadNodes().empty());
  CHECK(!office->is_recovery());
  CHECK_EQ(office->num_workers(), 3);
  CHECK_EQ(office->num_servers(), 2);
  CHECK_EQ(office->my_rank(), 0);
  CHECK_EQ(office->verbose(), 0);
  CHECK(ps::Postoffice::GetWorker() == ps::Postoffice::GetWorker(0));
  CHECK(ps::Postoffice::GetWorker(1) != ps::Postoffice::GetServer(1));
}

// ---- arrays
// ---------------------------------------------------------------------------------------

void Arrays() {
  ps::SArray<float> none;
  ps::SArray<float> three(3, 1.5f);
  ps::SArray<int> listed({1, 2, 3});
  ps::SArray<uint64_t> keys(std::vector<uint64_t>{5, 6});
  std::vector<char> mine(16, 'x');
  ps::SArray<char> lent(mine.data(), mine.size());
  ps::SArray<char> given(new char[4], 4, true);
  CHECK(none.empty() && lent.data() == mine.data() && given.size() == 4);
  ps::SArray<float> copy = three;
  copy[0] = 2.5f;
  CHECK_EQ(three[0], 2.5f);  // shared
  ps::SArray<char> bytes(three);
  CHECK_EQ(bytes.size(), 12u);
  CHECK(static_cast<void*>(bytes.data()) == three.data());
  ps::SArray<float> back;
  back = bytes;
  CHECK_EQ(back[1], 1.5f);
  ps::SArray<float> part = three.segment(1, 3);
  CHECK(part.data() == three.data() + 1 && part.size() == 2);
  three.push_back(4);
  three.resize(6, 9);
  CHECK(three.size() == 6 && three[3] == 4 && three[5] == 9);
  CHECK(part[0] == 1.5f);  // the old memory is kept
  three.clear();
  CHECK(three.empty());
  three.CopyFrom(back.data(), back.size());
  listed.CopyFrom(keys.begin(), keys.end());
  CHECK(three.data() != back.data() && listed[1] == 6);
  int deleted = 0;
  float memory[2] = {1, 2};
  {
    ps::SArray<float> owner;
    owner.reset(memory, 2, [&deleted](float*) { ++deleted; });
    ps::SArray<float> other;
    other.reset(
        memory, 2, [](void*) {}, ps::GPU, 1, ps::CPU, 2);
    CHECK_EQ(other.dst_device_id_, 2);
    CHECK_EQ(other.src_device_id_, 1);
    ps::SArray<float> kept = owner.segment(0, 1);
    owner.clear();
    CHECK_EQ(deleted, 0);
  }
  CHECK_EQ(deleted, 1);
  std::ostringstream text;
  text << listed << three.DebugString();
  CHECK(!text.str().empty());
}

// ---- what needs a job: compiled only
// --------------------------------------------------------------

void ModernWorker() {
  ps::KVWorker<float> kv(0, 0);
  std::vector<ps::Key> keys;
  std::vector<float> vals;
  std::vector<int> lens;
  kv.Wait(kv.Push(keys, vals));
  kv.Wait(kv.Push(
      keys, vals, lens, 1, []() {}, 2));
  kv.Wait(kv.Push(keys, vals, {}, 0));
  kv.Wait(kv.Pull(keys, &vals));
  kv.Wait(kv.Pull(keys, &vals, &lens, 1, nullptr, 2));
  kv.Wait(kv.PushPull(keys, vals, &vals));
  kv.Wait(kv.PushPull(
      keys, vals, &vals, &lens, 1, []() {}, 2));
}

// As MXNet's KVStore does.
void FrameworkWorker() {
  std::unique_ptr<ps::KVWorker<char>> worker(new ps::KVWorker<char>(0, 1));
  ps::StartAsync(1, "framework\0");
  if (!ps::Postoffice::Get()->is_recovery())
    ps::Postoffice::Get()->Barrier(worker->get_customer()->customer_id(),
                                   ps::kWorkerGroup + ps::kServerGroup + ps::kScheduler);
  ps::SArray<ps::Key> keys;
  ps::SArray<int> lens;
  const ps::Range& range = ps::Postoffice::Get()->GetServerKeyRanges()[0];
  keys.push_back(range.begin() + 5);
  lens.push_back(8);
  float data[2] = {1, 2};
  std::function<void()> done = []() {};
  ps::SArray<char>* vals = new ps::SArray<char>(reinterpret_cast<char*>(data), 8, false);
  worker->ZPush(keys, *vals, lens, 3, [done]() { done(); });
  worker->ZPush(
      keys, *vals, lens, 3, [done]() { done(); }, -1);
  worker->ZPull(keys, vals, &lens, 3, [vals, done]() { done(); });
  worker->ZPull(
      keys, vals, &lens, 3, [vals, done]() { done(); }, -1);
  worker->ZPushPull(keys, *vals, vals, &lens, 3, [vals, done]() { delete vals; });
  worker->Wait(worker->Request(4, "body", ps::kServerGroup));
  const std::vector<int> dead = ps::Postoffice::Get()->GetDeadNodes(60);
  const std::vector<int>& group = ps::Postoffice::Get()->GetNodeIDs(ps::kWorkerGroup);
  std::unordered_set<int> wanted(group.begin(), group.end());
  for (int id : dead) wanted.erase(id);
  std::atomic<bool> barrier(true);
  ps::Finalize(worker->get_customer()->customer_id(), barrier);
}

class FrameworkServer {
 public:
  FrameworkServer() {
    using namespace std::placeholders;
    server_ = new ps::KVServer<char>(0);
    static_cast<ps::SimpleApp*>(server_)->set_request_handle(
        std::bind(&FrameworkServer::Command, this, _1, _2));
    server_->set_request_handle(std::bind(&FrameworkServer::Data, this, _1, _2, _3));
  }
  ~FrameworkServer() { delete server_; }

 private:
  void Command(const ps::SimpleData& received, ps::SimpleApp* app) {
    commands_[received.head] = received.body;
    app->Response(received);
  }
  void Data(const ps::KVMeta& meta, const ps::KVPairs<char>& data, ps::KVServer<char>* server) {
    held_.push_back(meta);
    if (meta.push && !meta.pull) server->Response(meta);
    ps::KVPairs<char> answer;
    answer.keys = data.keys;
    answer.lens = {static_cast<int>(data.vals.size())};
    answer.vals.CopyFrom(data.vals.data(), data.vals.size());
    if (meta.pull && meta.cmd == 0) server->Response(held_.back(), answer);
  }
  ps::KVServer<char>* server_;
  std::vector<ps::KVMeta> held_;
  std::map<int, std::string> commands_;
};

// As BytePS and the tests of ByteDance's fork do.
void GroupedWorker() {
  using namespace ps;
  auto role = GetRole(GetEnv("DMLC_ROLE", "worker"));
  StartPS(0, role, -1, true, "grouped\0");
  KVWorker<char> kv(0, 0, 0);
  SArray<Key> keys(1, 1);
  SArray<int> lens(1, 4);
  SArray<char> vals;
  vals.reset(
      new char[4], 4, [](void*) {}, CPU, 0, CPU, 0);
  kv.Wait(kv.ZPush(keys, vals, lens));
  kv.Wait(kv.ZPull(keys, &vals, &lens));
  auto pulled = new SArray<char>(vals.data(), 4, false);
  kv.ZPull(keys, pulled, &lens, 1, [pulled]() { delete pulled; });
  Postoffice::GetWorker(0)->Barrier(0, kWorkerGroup + kServerGroup);
  Finalize(0, role, true);
}

template <typename Val>
void GroupedHandler(const ps::KVMeta& meta, const ps::KVPairs<Val>& data,
                    ps::KVServer<Val>* server) {
  static std::unordered_map<uint64_t, ps::KVPairs<Val>> stored;
  const uint64_t key = data.keys[0];
  if (meta.push) {
    CHECK_EQ(data.lens.size(), 1u);
    CHECK_EQ(data.vals.size(), static_cast<size_t>(data.lens[0]));
    stored[key] = data;
    server->Response(meta);
  } else {
    auto found = stored.find(key);
    CHECK_NE(found, stored.end()) << "key " << key << " from " << meta.sender << " of "
                                  << meta.val_len;
    server->Response(meta, found->second);
  }
}

void GroupedServer() {
  using namespace ps;
  auto server = new KVServer<char>(0, false, 0);
  server->set_request_handle(GroupedHandler<char>);
  SArray<Key> keys(1, 1);
  SArray<char> vals(4, 'x');
  SArray<int> lens(1, 4);
  server->RegisterRecvBufferWithRank(0, keys, vals, lens);
  CHECK_EQ(server->instance_idx_, 0);
  RegisterExitCallback([server]() { delete server; });
}

// As the programs of 2015 do.
void OldProgram(int argc, char** argv) {
  using namespace ps;
  if (IsServer()) {
    auto server = new KVServer<float>(0);
    server->set_request_handle(KVServerDefaultHandle<float>());
    RegisterExitCallback([server]() { delete server; });
  }
  if (argc > 1) Start(argv[0]);
  Start();
  SimpleApp app(0);
  app.set_request_handle(
      [](const SimpleData& request, SimpleApp* self) { self->Response(request, "answer"); });
  app.set_response_handle([](const SimpleData& response, SimpleApp*) {
    CHECK_EQ(response.head + response.sender + response.timestamp + response.customer_id,
             static_cast<int>(response.body.size()));
  });
  app.Wait(app.Request(1, "body", kServerGroup));
  StartAsync("program\0");
  Postoffice::Get()->Barrier(kWorkerGroup);
  Finalize();
  Finalize(false);
  Finalize(0);
  Start(0);
  Start(0, argv[0]);
}

}  // namespace

int main(int argc, char** argv) {
  StandardHeaders();
  Macros();
  Queues();
  Constants();
  Environments();
  Postoffices();
  Arrays();
  if (argc > 100) {
    ModernWorker();
    FrameworkWorker();
    FrameworkServer();
    GroupedWorker();
    GroupedServer();
    OldProgram(argc, argv);
  }
  std::cout << "good" << std::endl;
  return 0;
}
