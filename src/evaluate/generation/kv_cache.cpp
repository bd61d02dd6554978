#include "evaluate/generation/kv_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace halftone {
namespace {

// Positions are allocated by this many, so that most steps write into memory that is there.
constexpr int64_t kPositions = 64;

int64_t room_for(int64_t positions) {
  return (positions + kPositions - 1) / kPositions * kPositions;
}

// A tensor like x with room for `positions`, and x's [begin, end) at `place` in it.
at::Tensor moved(const at::Tensor& x_BHPD, int64_t begin, int64_t end, int64_t place,
                 int64_t positions) {
  at::Tensor wider = at::zeros(
      {x_BHPD.size(0), x_BHPD.size(1), room_for(positions), x_BHPD.size(3)}, x_BHPD.options());
  wider.slice(2, place, place + end - begin).copy_(x_BHPD.slice(2, begin, end));
  return wider;
}

at::Tensor written(at::Tensor& cache_BHPD, const at::Tensor& x_BHTD, int64_t past) {
  const int64_t end = past + x_BHTD.size(2);
  if (!cache_BHPD.defined()) {
    cache_BHPD = moved(x_BHTD, 0, x_BHTD.size(2), past, end);
  } else {
    if (cache_BHPD.size(2) < end) {
      cache_BHPD = moved(cache_BHPD, 0, past, 0, std::max(end, past + past / 2));
    }
    cache_BHPD.slice(2, past, end).copy_(x_BHTD);
  }
  return cache_BHPD.slice(2, 0, end);
}

}  // namespace

KvCache::Entry& KvCache::entry(size_t site) {
  if (entries_.size() <= site) entries_.resize(site + 1);
  return entries_[site];
}

std::pair<at::Tensor, at::Tensor> KvCache::append(size_t site, const at::Tensor& k_BHTD,
                                                  const at::Tensor& v_BHTD, int64_t past) {
  Entry& of_site = entry(site);
  const at::Tensor k = written(of_site.k, k_BHTD, past);
  return {k, written(of_site.v, v_BHTD, past)};
}

void KvCache::keep(const at::Tensor& rows, int64_t begin, int64_t past) {
  for (Entry& of_site : entries_) {
    for (at::Tensor* cache : {&of_site.k, &of_site.v}) {
      if (!cache->defined()) continue;
      const at::Tensor kept = cache->index_select(0, rows.to(cache->device()));
      *cache = begin == 0 ? kept : moved(kept, begin, past, 0, past - begin);
    }
  }
}

void KvCache::join(const KvCache& other, int64_t past, int64_t other_past, int64_t length) {
  for (size_t site = 0; site < other.entries_.size(); ++site) {
    const auto joined = [&](const at::Tensor& mine, const at::Tensor& more) {
      if (!more.defined()) return mine;
      const at::Tensor behind = moved(more, 0, other_past, length - other_past, length);
      if (!mine.defined()) return behind;
      return at::cat({moved(mine, 0, past, length - past, length), behind});
    };
    Entry& of_site = entry(site);
    of_site.k = joined(of_site.k, other.entries_[site].k);
    of_site.v = joined(of_site.v, other.entries_[site].v);
  }
}

std::pair<at::Tensor, at::Tensor> CachingRunner::key_value(size_t site, at::Tensor k_BHTD,
                                                           at::Tensor v_BHTD) {
  const auto [k, v] = inner_->key_value(site, std::move(k_BHTD), std::move(v_BHTD));
  return cache_.append(site, k, v, past_);
}

}  // namespace halftone
