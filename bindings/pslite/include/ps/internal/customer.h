// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Customer: one end of an application's conversations, with a thread of its own that runs handlers
// and callbacks.

#include "ps/internal/postoffice.h"

namespace ps {

class Customer {
 public:
  Customer(int office, int instance, int app_id, int customer_id, size_t value_size,
           const penstock_ps_handlers& handlers)
      : app_id_(app_id), customer_id_(customer_id) {
    internal::Check(penstock_ps_customer_create(office, instance, app_id, customer_id, value_size,
                                                &handlers, &runtime_));
  }
  // Ends its thread first.
  ~Customer() { penstock_ps_customer_destroy(runtime_); }
  // From now on messages come in: the owner is whole.
  void Start() { internal::Check(penstock_ps_customer_start(runtime_)); }
  Customer(const Customer&) = delete;
  void operator=(const Customer&) = delete;

  int app_id() const { return app_id_; }
  int customer_id() const { return customer_id_; }
  // Until the request is answered by everybody and its callback has run.
  void WaitRequest(int timestamp) { internal::Check(penstock_ps_wait(runtime_, timestamp)); }
  penstock_ps_customer* runtime() const { return runtime_; }

 private:
  const int app_id_;
  const int customer_id_;
  penstock_ps_customer* runtime_ = nullptr;
};

}  // namespace ps
