// in0 x [N,C,H,W]  in1 y [N,O,oh,ow]  ->  out0 w [O,C/groups,kh,kw], the weights' gradient from the result's.
SHAPE(WEIGHTS, in0, out0, in1)
find(s)->run(WEIGHTS, in0_p, out0_p, nullptr, in1_p);
