// Where the data of Jittor variables lies, and whether anything else looks at it.
// in0 Var pointers [n]  ->  out0 [2, n]: addresses (0: not computed yet, not float32 unless ANY_TYPE, or on the host where
// ON_CARD is 1, on a card where it is 0), and 1 where nothing but one holder knows the variable, no pending operation reads
// it and no other variable shares its memory.
const int64_t n = in0_shape0;
for (int64_t i = 0; i < n; i++) {
    Var* v = (Var*)in0_p[i];
    const bool ready = v->is_finished() && v->mem_ptr && v->allocator && v->allocator->is_cuda() == ON_CARD
                       && (ANY_TYPE || v->dtype() == ns_float32);
    out0_p[i] = ready ? (int64_t)v->mem_ptr : 0;
    out0_p[n + i] = ready && v->forward_liveness == 1 && v->backward_liveness == 1 && v->_outputs.empty()
                && !strcmp(v->allocator->name(), "sfrl")
                && CachingBlockPool::occupied_id_mapper[v->allocation]->share_times == 0;
}
