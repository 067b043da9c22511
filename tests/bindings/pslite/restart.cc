// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Jobs one after the other in the same processes.

#include "ps/ps.h"

int main() {
  int exits = 0;
  for (int job = 0; job < 4; ++job) {
    // A framework builds its worker before it starts.
    std::unique_ptr<ps::KVWorker<float>> kv;
    if (ps::IsWorker()) kv.reset(new ps::KVWorker<float>(0, 0));
    ps::Start(0);
    if (ps::IsServer()) {
      auto server = new ps::KVServer<float>(0);
      server->set_request_handle(ps::KVServerDefaultHandle<float>());
      ps::RegisterExitCallback([server, &exits]() {
        delete server;
        ++exits;
      });
    } else {
      ps::RegisterExitCallback([&exits]() { ++exits; });
    }
    if (kv != nullptr) {
      const std::vector<ps::Key> keys = {1, ps::kMaxKey / 2 + 1};
      kv->Wait(kv->Push(keys, {1.5f, 2.5f}));
      ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup);
      std::vector<float> got;
      kv->Wait(kv->Pull(keys, &got));
      const float workers = static_cast<float>(ps::NumWorkers());
      CHECK_EQ(got.size(), 2u);
      CHECK_EQ(got[0], 1.5f * workers) << "job " << job;
      CHECK_EQ(got[1], 2.5f * workers) << "job " << job;
    }
    ps::Finalize(0, true);
    CHECK_EQ(exits, job + 1);
  }
  std::cout << "good" << std::endl;
  return 0;
}
