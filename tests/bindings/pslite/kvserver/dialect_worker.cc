// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// A worker of the KVStore dialect: dialect_worker SCENARIO. Two workers, any number of servers; all
// numbers are chosen so that every value can be checked exactly.

#include "tests/bindings/pslite/kvserver/dialect_store.h"

namespace {

using Floats = std::vector<float>;

Floats Fill(size_t count, float value) { return Floats(count, value); }

void CheckAll(const Floats& got, size_t count, float expected) {
  CHECK_EQ(got.size(), count);
  for (const float value : got) CHECK_EQ(value, expected);
}

float Rank() { return static_cast<float>(ps::MyRank()); }

// One round of a gradient of rank + 1 from each, 3 together; what is there after it.
Floats Round(DialectStore& store, int key, size_t count) {
  store.Wait(store.Push(key, Fill(count, Rank() + 1), kFloat32));
  return store.Pull<float>(key, count, kFloat32);
}

// Without an optimizer the sum replaces the value, and a push is answered with its round.
void Sync() {
  DialectStore store;
  store.TellOnce(kSync, "");
  const size_t sizes[] = {5, 1003, 100000};
  for (int key = 0; key < 3; ++key) store.Init(key + 3, Fill(sizes[key], 7), kFloat32);
  for (int round = 0; round < 10; ++round) {
    for (int key = 0; key < 3; ++key) {
      if (round == 0) CheckAll(store.Pull<float>(key + 3, sizes[key], kFloat32), sizes[key], 7);
      store.Barrier();
      const float mine = Rank() * 10 + static_cast<float>(round);
      store.Wait(store.Push(key + 3, Fill(sizes[key], mine), kFloat32));
      CheckAll(store.Pull<float>(key + 3, sizes[key], kFloat32), sizes[key],
               static_cast<float>(10 + 2 * round));
      store.Barrier();
    }
  }
  CheckAll(store.PushPull(3, Fill(5, Rank()), kFloat32), 5, 1);
  store.Barrier();

  const std::vector<int> whole = {2000000000, -5, 0};
  store.Init(20, std::vector<int>(3, 1), kInt32);
  store.Wait(store.Push(20, whole, kInt32));
  CHECK(store.Pull<int>(20, 3, kInt32) == (std::vector<int>{-294967296, -10, 0}));
}

// A push waits for the other worker's; a pull does not.
void Deferred() {
  DialectStore store;
  store.TellOnce(kSync, "");
  store.Init(1, Fill(4, 7), kFloat32);
  if (ps::MyRank() == 0) {
    std::atomic<bool> answered(false);
    const int push = store.Push(1, Fill(4, 2), kFloat32, [&answered]() { answered = true; });
    CheckAll(store.Pull<float>(1, 4, kFloat32), 4, 7);
    CHECK(!answered.load());
    store.Barrier();
    store.Wait(push);
    CHECK(answered.load());
  } else {
    store.Barrier();
    store.Wait(store.Push(1, Fill(4, 3), kFloat32));
  }
  CheckAll(store.Pull<float>(1, 4, kFloat32), 4, 5);
}

// Momentum in MXNet's form, its words for clipping, and that a new optimizer has new state.
void Optimizers() {
  DialectStore store;
  store.TellOnce(kSync, "");
  store.Init(1, Fill(2000, 16), kFloat32);
  store.TellOnce(kController, "sgd:learning_rate=0.5,momentum=0.5,rescale_grad=2");
  float velocity = 0;
  float weight = 16;
  for (int round = 0; round < 4; ++round) {
    velocity = 0.5f * velocity - 0.5f * 6;
    weight += velocity;
    CheckAll(Round(store, 1, 2000), 2000, weight);
    store.Barrier();
  }
  store.TellOnce(kController, "sgd:learning_rate=0.5,momentum=0.5,clip_gradient=0");
  CheckAll(Round(store, 1, 2000), 2000, weight);
  store.TellOnce(kController, "sgd:learning_rate=0.5,clip_gradient=0.25");
  CheckAll(Round(store, 1, 2000), 2000, weight - 0.125f);
  store.TellOnce(kController, "sgd:learning_rate=0.5,clip_gradient=-1,wd=0.5");
  weight -= 0.125f;
  CheckAll(Round(store, 1, 2000), 2000, weight - 0.5f * (3 + 0.5f * weight));
}

void Async() {
  DialectStore store;
  if (ps::MyRank() == 0)
    for (const std::string& said : store.Tell(kController, "sgd:learning_rate=0.5"))
      CHECK_EQ(said, "");
  store.Barrier();
  store.Init(1, Fill(2000, 100), kFloat32);
  for (int i = 0; i < 20; ++i) store.Wait(store.Push(1, Fill(2000, 1), kFloat32));
  store.Barrier();
  CheckAll(store.Pull<float>(1, 2000, kFloat32), 2000, 80);
}

// Rows pushed by one, by both and by nobody; pushes and pulls of no rows.
void Rows() {
  DialectStore store;
  store.TellOnce(kSync, "");
  const int key = 9;
  const int width = 3;
  const int rows_each = 4;
  std::vector<int> all;
  for (int row = 0; row < rows_each * ps::NumServers(); ++row) all.push_back(row);
  Floats values;
  for (const int row : all) values.insert(values.end(), width, static_cast<float>(10 * row));
  if (ps::MyRank() == 0) store.Wait(store.PushRows(key, all, rows_each, width, values));
  store.Barrier();
  CHECK(store.PullRows(key, all, rows_each, width) == values);
  store.TellOnce(kController, "sgd:learning_rate=0.5");

  const bool first = ps::MyRank() == 0;
  const std::vector<int> mine = first ? std::vector<int>{0, 2} : std::vector<int>{2, 3};
  store.Wait(store.PushRows(key, mine, rows_each, width, Fill(mine.size() * width, Rank() + 2)));
  const Floats expected = {-1, -1, -1, 17.5f, 17.5f, 17.5f, 28.5f, 28.5f, 28.5f};
  CHECK(store.PullRows(key, {0, 2, 3}, rows_each, width) == expected);
  store.Barrier();

  store.Wait(first ? store.PushRows(key, {}, rows_each, width, {})
                   : store.PushRows(key, {1}, rows_each, width, {4, 4, 4}));
  CHECK(store.PullRows(key, {1}, rows_each, width) == Fill(3, 8));
  CHECK(store.PullRows(key, {}, rows_each, width).empty());
  store.Barrier();
  store.Wait(store.PushRows(key, {}, rows_each, width, {}));
  CHECK(store.PullRows(key, {1}, rows_each, width) == Fill(3, 8));
}

// 2 bits: +t is 11, -t is 10, the first value in the top bits. 1 bit: 1 is +1, 0 is -1.
void Compressed() {
  DialectStore store;
  store.TellOnce(kSync, "");
  store.TellOnce(kCompression, "2,0.5");
  const std::vector<unsigned char> two = {0xe3, 0x80, 0, 0};
  store.Init(3, Fill(6, 9), kFloat32);
  store.Wait(store.PushCompressed(3, 6, two));
  CHECK(store.Pull<float>(3, 6, kFloat32) == (Floats{1, -1, 0, 1, -1, 0}));
  store.Barrier();
  // Who compresses and who does not may meet in a round.
  store.Wait(ps::MyRank() == 0 ? store.PushCompressed(3, 6, two)
                               : store.Push(3, Fill(6, 2), kFloat32));
  CHECK(store.Pull<float>(3, 6, kFloat32) == (Floats{2.5f, 1.5f, 2, 2.5f, 1.5f, 2}));
  store.TellOnce(kController, "sgd:learning_rate=0.5");
  store.Wait(store.PushCompressed(3, 6, two));
  CHECK(store.Pull<float>(3, 6, kFloat32) == (Floats{2, 2, 2, 2, 2, 2}));
  store.Barrier();
  store.Wait(ps::MyRank() == 0 ? store.PushCompressed(3, 6, two)
                               : store.Push(3, Fill(6, 2), kFloat32));
  CHECK(store.Pull<float>(3, 6, kFloat32) == (Floats{0.75f, 1.25f, 1, 0.75f, 1.25f, 1}));

  store.TellOnce(kCompression, "1,0.5");
  store.Wait(store.PushCompressed(3, 6, {0xa4, 0, 0, 0}));
  CHECK(store.Pull<float>(3, 6, kFloat32) == (Floats{-0.25f, 2.25f, 0, 1.75f, 2.25f, 0}));
}

// 2^-12 below 1 is 1 in fp16, 2^-11 is not: only float32 parameters behind get there in two steps.
void Half() {
  DialectStore store;
  const std::vector<std::uint16_t> one(6, 0x3c00);
  store.TellOnce(kSync, "");
  store.Init(1, one, kFloat16);
  store.TellOnce(kController, "sgd:learning_rate=0.000244140625,rescale_grad=0.5");
  const auto round = [&]() {
    store.Wait(store.Push(1, one, kFloat16));
    const std::vector<std::uint16_t> now = store.Pull<std::uint16_t>(1, 6, kFloat16);
    store.Barrier();
    return now;
  };
  for (int i = 0; i < 3; ++i) CHECK(round() == one);
  store.TellOnce(kMultiPrecision, "");
  CHECK(round() == one);
  CHECK(round() == std::vector<std::uint16_t>(6, 0x3bff));
}

void CheckSaid(const std::vector<std::string>& answers, const std::string& word) {
  for (const std::string& answer : answers)
    CHECK(answer.find(word) != std::string::npos) << "\"" << answer << "\" says no " << word;
}

// Every command is answered, also those that do nothing here.
void Commands() {
  DialectStore store;
  if (ps::MyRank() == 0) {
    CheckSaid(store.Tell(kProfiler, "filename:profile.json,profile_all:10"), "profiler");
    for (const char* body : {"11", "12", "03"}) CheckSaid(store.Tell(kProfiler, body), "profiler");
    CheckSaid(store.Tell(17, ""), "17");
    CheckSaid(store.Tell(kCompression, "3,0.5"), "compression");
    CheckSaid(store.Tell(kController, "lars:learning_rate=1"), "norms");
    CheckSaid(store.Tell(kController, "sgd:learning_rat=1"), "learning_rat");
    CheckSaid(store.Tell(kController, "sgd:wd=1,weight_decay=1"), "same");
    CheckSaid(store.Tell(kController, "sgd:learning_rate=1"), "");
  }
}

// The push ends the server, and with it the job.
void Pickled() {
  DialectStore store;
  if (ps::MyRank() == 0)
    CheckSaid(store.Tell(kController, "ccopy_reg\n_reconstructor\np0\n(cmxnet.optimizer\n"),
              "pickled");
  store.Barrier();
  store.Init(1, Fill(4, 7), kFloat32);
  store.Wait(store.Push(1, Fill(4, 7), kFloat32));
}

// A push that does not fit its key ends the server, too.
void WrongSize() {
  DialectStore store;
  store.TellOnce(kSync, "");
  store.Init(1, Fill(4, 7), kFloat32);
  store.Wait(store.Push(1, Fill(5, 7), kFloat32));
}

}  // namespace

int main(int argc, char* argv[]) {
  const std::map<std::string, void (*)()> scenarios = {
      {"sync", &Sync},           {"deferred", &Deferred}, {"optimizers", &Optimizers},
      {"async", &Async},         {"rows", &Rows},         {"compressed", &Compressed},
      {"half", &Half},           {"commands", &Commands}, {"pickled", &Pickled},
      {"wrong_size", &WrongSize}};
  const auto found = argc == 2 ? scenarios.find(argv[1]) : scenarios.end();
  if (found == scenarios.end()) {
    std::cerr << "usage: dialect_worker SCENARIO" << std::endl;
    return 64;
  }
  found->second();
  std::cout << "good" << std::endl;
  return 0;
}
