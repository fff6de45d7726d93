#include "core/scheduler/ledger.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::scheduler {

Ledger::Ledger(ResourceSet total)
    : total_(std::move(total)),
      available_(total_),
      gpus_(static_cast<size_t>(total_.get(kGpu) / kResourceUnit)) {
  MOBULA_CHECK(total_.get(kGpu) % kResourceUnit == 0);
}

bool Ledger::fits(const ResourceSet& request) const {
  return available_.covers(request) && gpus_.fits(request.get(kGpu));
}

bool Ledger::would_help(const ResourceSet& held, const ResourceSet& request) const {
  for (const auto& [name, amount] : request.amounts()) {
    const bool is_short = name == kGpu ? !gpus_.fits(amount) : amount > available_.get(name);
    if (is_short && held.get(name) > 0) return true;
  }
  return false;
}

Holding Ledger::take(const ResourceSet& request) {
  MOBULA_CHECK(fits(request));
  available_.subtract(request);
  return {request, gpus_.take(request.get(kGpu))};
}

Holding Ledger::withhold(const ResourceSet& request) {
  Holding holding;
  for (const auto& [name, amount] : request.amounts()) {
    if (name == kGpu) {
      if (gpus_.fits(amount)) continue;
      holding.gpus = gpus_.withhold(amount);
      ResourceAmount withheld = 0;
      for (const GpuShare& share : holding.gpus) withheld += share.amount;
      holding.amounts.set(name, withheld);
    } else if (const ResourceAmount left = available_.get(name); left < amount) {
      holding.amounts.set(name, std::max<ResourceAmount>(left, 0));
    }
  }
  available_.subtract(holding.amounts);
  return holding;
}

void Ledger::give_back(const Holding& holding) {
  available_.add(holding.amounts);
  gpus_.give_back(holding.gpus);
}

void Ledger::lend_cpus(ResourceAmount amount) {
  available_.set(kCpu, available_.get(kCpu) + amount);
}

void Ledger::take_cpus_again(ResourceAmount amount) {
  available_.set(kCpu, available_.get(kCpu) - amount);
}

}  // namespace mobula::scheduler
